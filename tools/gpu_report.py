#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The lines of gpu_probe (and of gpu_check's profiles) as the tables of docs/gpu.md.

    tools/gpu_report.py [--command TEXT] FILE.jsonl... >>docs/gpu.md

Needs Python 3 alone. What failed stands first. A line that cannot be read, or lacks what its section always says, is named by its number
and costs nothing but itself: what it does say, "?" in place of what is no number, and all others stand in the tables.
"""

import argparse
import datetime
import json
import math
import sys
import unicodedata

MOST_NAMED = 50    # of failures, of malformed lines
MOST_TEXT = 400    # characters of a value
MOST_DEPTH = 20    # of lists in lists
UNKNOWN = "?"      # the probe writes null for what is not finite

# Section, keys of which any makes it a line of this kind, what such a line has: numbers, and others.
KINDS = [
    ("conformance", ("tests", "failed"), ("tests", "failed"), ("what",)),
    ("kernels", ("kernel", "registers", "local_bytes"), ("registers", "local_bytes"), ("kernel",)),
    ("bits", ("elements", "same_bits"), ("elements", "same_bits"), ("what",)),
    ("matmul", ("us", "gb_per_s", "tflop_per_s"), ("us", "gb_per_s"), ("kernel",)),
    ("ops", ("us", "gb_per_s", "tflop_per_s"), ("us", "gb_per_s"), ("op",)),
    ("decoder", ("us", "tokens_per_s"), ("us", "tokens_per_s"), ("model", "what")),
    ("captured", ("steps", "same_bits", "graphs"), ("steps", "same_bits", "graphs"), ("model",)),
    ("ranks", ("bytes", "us"), ("bytes", "us", "rank"), ()),
    ("cluster", ("ok", "result"), (), ("ok",)),
]
DEVICE = {"device": (("multiprocessors", "memory_bytes", "shared_bytes_of_a_block"), ("name", "capability")),
          "versions": (("cuda_driver", "cuda_runtime"), ("cublaslt", "nccl"))}


class Line(dict):
    """What a line says, and where it stands."""

    place = ""


def is_deep(value):
    """Whether there are more lists in lists than Python prints or a reader wants."""
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [i for v in level if isinstance(v, (dict, list)) for i in (v.values() if isinstance(v, dict) else v)]
    return bool(level)


def read(paths):
    """(lines, (place, text) of what is none, places of runs without an end)."""
    lines, broken, cut = [], [], []
    for path in paths:
        ended = False
        with open(path, encoding="utf-8-sig", errors="replace", newline="\n") as file:
            for count, text in enumerate(file, 1):
                place = f"line {count}" if len(paths) == 1 else f"{path} line {count}"
                if not text.strip():
                    continue
                try:
                    line = json.loads(text)
                except (ValueError, RecursionError):  # a line of brackets alone ends the parser's stack, not its text
                    line = None
                if not isinstance(line, dict) or is_deep(line):
                    broken.append((place, text.strip()))
                    continue
                lines.append(Line(line))
                lines[-1].place = place
                ended = ended or line.get("section") == "cluster" or line.get("section") == "end" and names(line.get("failed")) is not None
        if not ended:
            cut.append(path)
    return lines, broken, cut


def names(value):
    """A list of sections in words; None where it is none."""
    if isinstance(value, str) and value:
        return [value]
    return [v if isinstance(v, str) else json.dumps(v) for v in value] if isinstance(value, list) else None


def finite(value):
    """The number that a value is, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an integer beyond every float
        return None


def plain(value):
    """Text of one line, without what a terminal or a file of markdown would obey."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = text if len(text) <= MOST_TEXT else text[:MOST_TEXT] + "..."
    # Control and format characters (also those that turn the direction of text), halves of surrogate pairs, separators of lines.
    return "".join(c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else c.encode("unicode_escape").decode() for c in text)


def number(value):
    """A number in a few digits; other values in words."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return UNKNOWN
    if isinstance(value, (bool, str)) or finite(value) is None:
        return plain(str(value) if isinstance(value, bool) else value)
    if isinstance(value, float) and abs(value) < 1e15 and (abs(value) >= 1000 or value == int(value)):
        return f"{value:,.0f}"
    return plain(f"{value:,}") if isinstance(value, int) else f"{value:.3g}"


def scaled(value, divisor):
    return UNKNOWN if finite(value) is None else f"{value / divisor:,.0f}"


def has_failed(line):
    """What is neither true nor false has not passed either."""
    return line.get("ok", line.get("section") != "cluster") is not True


def share(value, of):
    """Of the best there is; empty where there is none."""
    value = finite(value)
    return f"{100 * value / of:.0f} %" if of and value else ""


def best_of(values):
    return max((v for v in map(finite, values) if v is not None and v > 0), default=None)


def table(title, lines, columns):
    """columns: (heading, key, or function of the line that gives text). Empty without lines."""
    if not lines:
        return []
    rows = [[key(line) if callable(key) else number(line[key]) if key in line else "" for _, key in columns] for line in lines]
    # A bar ends a cell, also behind a backslash that is itself escaped.
    rows = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row] for row in rows]
    head = "| " + " | ".join(heading for heading, _ in columns) + " |"
    return ["", f"**{title}**", "", head, "|" + "---|" * len(columns), *("| " + " | ".join(row) + " |" for row in rows)]


def lacks(line):
    """What a line of its kind has and this one has not, in words."""
    section = line.get("section")
    if not isinstance(section, str):
        return "no section"
    if section == "end":
        wrong = [f"{key} is no list: {plain(line[key])}" for key in ("failed", "not_run") if key in line and names(line[key]) is None]
        return "; ".join(wrong)
    numbers, others = (), ()
    if section == "device" and isinstance(line.get("what"), str):
        numbers, others = DEVICE.get(line["what"], ((), ()))
    for kind, some, its_numbers, its_others in KINDS:
        if section == kind and any(key in line for key in some):
            numbers, others = its_numbers, its_others
    if line.get("ok") is False and "error" in line:
        return ""  # says what went wrong in place of them
    missing = [key for key in (*others, *numbers) if key not in line]
    strange = [key for key in numbers if key in line and finite(line[key]) is None]
    return "; ".join([f"without {', '.join(missing)}"] * bool(missing) + [f"no number: {', '.join(strange)}"] * bool(strange))


class Report:
    def __init__(self, lines, broken, cut):
        self.lines, self.broken, self.cut = lines, broken, cut
        self.copies = best_of([l["gb_per_s"] for l in self.of("matmul", "gb_per_s") if l.get("kernel") == "copy"])

    def of(self, section, *keys):
        return [l for l in self.lines if l.get("section") == section and all(k in l for k in keys)]

    def measured(self, section):
        """Lines with any of the keys that make them one of KINDS: a missing one leaves a cell empty, not the row out."""
        keys = next(some for kind, some, *_ in KINDS if kind == section)
        return [l for l in self.of(section) if any(key in l for key in keys)]

    def one(self, section, what):
        return next((l for l in self.lines if l.get("section") == section and l.get("what") == what), {})

    def text(self, command):
        parts = [self.machine(command), self.problems(), self.checks(), self.rates(), self.decoders()]
        return "\n".join(line for part in parts for line in part) + "\n"

    def machine(self, command):
        device, versions = self.one("device", "device"), self.one("device", "versions")
        out = [f"### {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}: {plain(device.get('name', 'no device'))}", ""]
        if command:
            out.append(f"* `{plain(command)}`")
        if device:
            memory, shared = scaled(device.get("memory_bytes"), 1e9), scaled(device.get("shared_bytes_of_a_block"), 1024)
            out.append(f"* compute capability {number(device.get('capability'))}, {number(device.get('multiprocessors'))} multiprocessors, "
                       f"{memory} GB, {shared} KiB of shared memory a block")
        if versions:
            driver, runtime, cublaslt, nccl = (plain(versions.get(key, UNKNOWN)) for key in ("cuda_driver", "cuda_runtime", "cublaslt", "nccl"))
            out.append(f"* CUDA driver {driver}, runtime {runtime}; cuBLASLt: {cublaslt}; NCCL: {nccl}")
        return out

    def silent_failures(self):
        """Sections that the end names and that said nothing of it: they ended with an exit code alone, as one that could not be started."""
        said = {l["section"] for l in self.lines if has_failed(l) and isinstance(l.get("section"), str)}
        named = [name for line in self.of("end") for name in names(line.get("failed")) or []]
        return [name for name in dict.fromkeys(named) if name not in said]

    def headline(self, failed):
        if failed:
            return f"**Failed: {failed}**"
        if self.cut:
            return "**Cut short: what failed is not known.**"
        return "**Nothing failed in the lines that could be read.**" if self.broken else "**Nothing failed.**"

    def problems(self):
        failed = [l for l in self.lines if has_failed(l)]
        silent = self.silent_failures()
        out = ["", self.headline(len(failed) + len(silent))]
        for line in failed[:MOST_NAMED]:
            rest = {k: v for k, v in line.items() if k not in ("section", "seconds", "ok")}
            out.append(f"* {plain(line.get('section'))}: {plain(rest)}")
        out += [f"* {plain(name)}: failed and said nothing of it" for name in silent[:MOST_NAMED]]
        for line in self.lines:
            if line.get("not_run") and line.get("section") != "end":
                out.append(f"* not run: {plain(line.get('section'))}: {plain(line.get('what', ''))} {plain(line['not_run'])}".replace("  ", " "))
            if "finding" in line:
                out.append(f"* finding: {plain(line.get('section'))}: {plain(line['finding'])}")
        for line in self.of("end", "not_run"):
            if names(line["not_run"]):
                out.append(f"* sections that did not run: {plain(', '.join(names(line['not_run'])))}")
        for path in self.cut:
            out.append(f"* the run{'' if len(self.cut) == 1 else ' of ' + plain(path)} was cut short: no last line says which sections failed")
        return out + self.unreadable()

    def unreadable(self):
        out = []
        if self.broken:
            places = ", ".join(place for place, _ in self.broken[:MOST_NAMED])
            out.append(f"* {len(self.broken)} lines could not be read ({plain(places)}), the first: {plain(self.broken[0][1][:100])}")
        malformed = [(line, lacks(line)) for line in self.lines]
        malformed = [(line, what) for line, what in malformed if what]
        out += [f"* {plain(line.place)}: {plain(line.get('section', UNKNOWN))}: {plain(what)}" for line, what in malformed[:MOST_NAMED]]
        if len(malformed) > MOST_NAMED:
            out.append(f"* {len(malformed) - MOST_NAMED} more lines like these")
        return out

    def checks(self):
        out = [""]
        kernels = self.measured("kernels")
        if kernels:
            # Without a number of bytes it is not known to have none.
            local = [f"{number(l.get('kernel'))} ({number(l.get('local_bytes'))})" for l in kernels if l.get("local_bytes") != 0]
            most = best_of(l.get("registers") for l in kernels)
            out.append(f"* {len(kernels)} kernels, at most {number(most)} registers; local memory (bytes): {', '.join(local) or 'none'}")
        suite = self.one("conformance", "all")
        if suite:
            out.append(f"* Ops suite: {number(suite.get('tests'))} tests, {number(suite.get('failed'))} failed")
        for line in self.measured("bits"):
            shape = f" {number(line.get('rows'))} x {number(line['k'])} x {number(line.get('cols'))}" if "k" in line else ""
            what, same, elements = (number(line.get(key)) for key in ("what", "same_bits", "elements"))
            out.append(f"* {what}{shape}: {same} of {elements} elements have the same bits")
        for line in self.measured("captured"):
            model, same, steps, graphs = (number(line.get(key)) for key in ("model", "same_bits", "steps", "graphs"))
            out.append(f"* {model}: {same} of {steps} captured steps have the bits of plain ones, {graphs} graphs launched")
        for line in self.measured("ranks"):
            size, rank = number(line.get("bytes")), number(line.get("rank"))
            out.append(f"* NCCL, two processes: {size} bytes each way in {scaled(line.get('us'), 1)} us (rank {rank})")
        for line in self.of("cluster"):
            out.append(f"* cluster: {'FAILED' if has_failed(line) else 'passed'}: {plain(line.get('result', ''))}")
        return out

    def rates(self):
        best = best_of(l["tflop_per_s"] for l in self.of("matmul", "tflop_per_s") if l.get("kernel") == "cublaslt")

        def of_copies(line):
            return share(line.get("gb_per_s"), self.copies)

        def of_cublaslt(line):
            return share(line.get("tflop_per_s"), best)

        def words(line):
            return " ".join(plain(line[key]) for key in ("op", "what") if key in line)

        def shape(line):
            keys = ("sequences", "rows", "context", "heads", "kv_heads", "head_dim", "cache")
            return ", ".join(f"{key} {plain(line[key])}" for key in keys if key in line)

        columns = [("kernel", "kernel"), ("kind", "kind"), ("rows", "rows"), ("tile", "tile_rows"), ("fast", "fast"), ("split", "split"),
                   ("us", "us"), ("GB/s", "gb_per_s"), ("of copies", of_copies), ("TFLOP/s", "tflop_per_s"), ("of cuBLASLt", of_cublaslt)]
        ops = [("op", words), ("shape", shape), ("us", "us"), ("GB/s", "gb_per_s"), ("of copies", of_copies), ("TFLOP/s", "tflop_per_s")]
        return table("Matrix products", self.measured("matmul"), columns) + table("Other ops", self.measured("ops"), ops)

    def decoders(self):
        def rows(line):
            return number(line.get("batch", line.get("tokens")))

        def of_copies(line):
            return share(line.get("weights_gb_per_s"), self.copies)

        columns = [("model", "model"), ("", "what"), ("batch or tokens", rows), ("us", "us"), ("tokens/s", "tokens_per_s"),
                   ("weights GB/s", "weights_gb_per_s"), ("of copies", of_copies), ("TFLOP/s", "tflop_per_s")]
        return table("Whole decoders", self.measured("decoder"), columns)


def main(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", default="", help="how the lines were had")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args(words)
    try:
        report = Report(*read(options.files))
    except OSError as error:
        sys.stderr.write(f"gpu_report: {error}\n")
        return 1
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # whatever the locale of a bare machine is
    sys.stdout.write(report.text(options.command))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
