#!/usr/bin/env python3
"""The lines of gpu_probe (and of gpu_check's profiles) as the tables of docs/gpu.md.

    tools/gpu_report.py [--command TEXT] FILE.jsonl... >>docs/gpu.md

Needs Python 3 alone. What failed stands first; a line that cannot be read is counted and named.
"""

import argparse
import datetime
import json
import sys


def read(paths):
    """(lines as dicts, texts that are none)."""
    lines, broken = [], []
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            for text in filter(str.strip, file):
                try:
                    line = json.loads(text)
                    lines.append(line if isinstance(line, dict) else {"section": "?", "value": line})
                except ValueError:
                    broken.append(text.strip())
    return lines, broken


def number(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def table(title, lines, columns):
    """columns: (heading, key or function of the line). Empty without lines."""
    if not lines:
        return []
    rows = [[number(key(line) if callable(key) else line.get(key)) for _, key in columns] for line in lines]
    head = "| " + " | ".join(heading for heading, _ in columns) + " |"
    return ["", f"**{title}**", "", head, "|" + "---|" * len(columns), *("| " + " | ".join(row) + " |" for row in rows)]


class Report:
    def __init__(self, lines, broken):
        self.lines, self.broken = lines, broken

    def of(self, section, *keys):
        return [l for l in self.lines if l.get("section") == section and all(k in l for k in keys)]

    def one(self, section, what):
        return next((l for l in self.lines if l.get("section") == section and l.get("what") == what), {})

    def text(self, command):
        parts = [self.machine(command), self.problems(), self.checks(), self.rates(), self.decoders()]
        return "\n".join(line for part in parts for line in part) + "\n"

    def machine(self, command):
        device, versions = self.one("device", "device"), self.one("device", "versions")
        out = [f"### {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}: {device.get('name', 'no device')}", ""]
        if command:
            out.append(f"* `{command}`")
        if device:
            out.append(f"* compute capability {device['capability']}, {device['multiprocessors']} multiprocessors, "
                       f"{device['memory_bytes'] / 1e9:.0f} GB, {device['shared_bytes_of_a_block'] // 1024} KiB of shared memory a block")
        if versions:
            out.append(f"* CUDA driver {versions['cuda_driver']}, runtime {versions['cuda_runtime']}; cuBLASLt: {versions['cublaslt']}; NCCL: {versions['nccl']}")
        return out

    def problems(self):
        failed = [l for l in self.lines if l.get("ok") is False]
        out = ["", f"**Failed: {len(failed)}**" if failed else "**Nothing failed.**"]
        for line in failed[:50]:
            rest = {k: v for k, v in line.items() if k not in ("section", "seconds", "ok")}
            out.append(f"* {line.get('section')}: {json.dumps(rest)[:400]}")
        for line in self.lines:
            if line.get("not_run") and line.get("section") != "end":
                out.append(f"* not run: {line.get('section')}: {line.get('what', '')} {line['not_run']}".replace("  ", " "))
            if "finding" in line:
                out.append(f"* finding: {line.get('section')}: {str(line['finding'])[:400]}")
        end = self.of("end")
        if end and end[-1].get("not_run"):
            out.append(f"* sections that did not run: {', '.join(end[-1]['not_run'])}")
        if not end and not self.of("cluster"):
            out.append("* the run was cut short: there is no last line")
        if self.broken:
            out.append(f"* {len(self.broken)} lines could not be read, the first: {self.broken[0][:100]}")
        return out

    def checks(self):
        out = [""]
        kernels = self.of("kernels", "kernel")
        if kernels:
            local = [f"{l['kernel']} ({l['local_bytes']})" for l in kernels if l["local_bytes"]]
            out.append(f"* {len(kernels)} kernels, at most {max(l['registers'] for l in kernels)} registers; local memory (bytes): {', '.join(local) or 'none'}")
        suite = self.one("conformance", "all")
        if suite:
            out.append(f"* Ops suite: {suite['tests']} tests, {suite['failed']} failed")
        for line in self.of("bits", "same_bits"):
            shape = f" {line['rows']} x {line['k']} x {line['cols']}" if "k" in line else ""
            out.append(f"* {line['what']}{shape}: {line['same_bits']:,} of {line['elements']:,} elements have the same bits")
        for line in self.of("captured", "same_bits"):
            out.append(f"* {line['model']}: {line['same_bits']} of {line['steps']} captured steps have the bits of plain ones, {line['graphs']} graphs launched")
        for line in self.of("ranks", "bytes"):
            out.append(f"* NCCL, two processes: {line['bytes']:,} bytes each way in {line['us']:.0f} us (rank {line['rank']})")
        for line in self.of("cluster"):
            out.append(f"* cluster: {'passed' if line.get('ok') else 'FAILED'}: {line.get('result', '')}")
        return out

    def rates(self):
        copy = next((l["gb_per_s"] for l in self.of("matmul", "gb_per_s") if l.get("kernel") == "copy"), None)
        best = max((l["tflop_per_s"] for l in self.of("matmul", "tflop_per_s") if l.get("kernel") == "cublaslt"), default=None)

        def share(key, of):
            return lambda line: f"{100 * line[key] / of:.0f} %" if of and line.get(key) else None

        columns = [("kernel", "kernel"), ("kind", "kind"), ("rows", "rows"), ("tile", "tile_rows"), ("fast", "fast"), ("split", "split"), ("us", "us"),
                   ("GB/s", "gb_per_s"), ("of copies", share("gb_per_s", copy)), ("TFLOP/s", "tflop_per_s"), ("of cuBLASLt", share("tflop_per_s", best))]
        ops = [("op", lambda l: " ".join(str(l[k]) for k in ("op", "what") if k in l)),
               ("shape", lambda l: ", ".join(f"{k} {l[k]}" for k in ("sequences", "rows", "context", "heads", "kv_heads", "head_dim", "cache") if k in l)),
               ("us", "us"), ("GB/s", "gb_per_s"), ("of copies", share("gb_per_s", copy)), ("TFLOP/s", "tflop_per_s")]
        return table("Matrix products", self.of("matmul", "us"), columns) + table("Other ops", self.of("ops", "us"), ops)

    def decoders(self):
        copy = next((l["gb_per_s"] for l in self.of("matmul", "gb_per_s") if l.get("kernel") == "copy"), None)
        columns = [("model", "model"), ("", "what"), ("batch or tokens", lambda l: l.get("batch", l.get("tokens"))), ("us", "us"), ("tokens/s", "tokens_per_s"),
                   ("weights GB/s", "weights_gb_per_s"), ("of copies", lambda l: f"{100 * l['weights_gb_per_s'] / copy:.0f} %" if copy and "weights_gb_per_s" in l else None),
                   ("TFLOP/s", "tflop_per_s")]
        return table("Whole decoders", self.of("decoder", "us"), columns)


def main(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", default="", help="how the lines were had")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args(words)
    sys.stdout.write(Report(*read(options.files)).text(options.command))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
