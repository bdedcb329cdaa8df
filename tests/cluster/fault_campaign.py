# SPDX-License-Identifier: Apache-2.0
"""Kills (SIGKILL) or stops (SIGSTOP) expert workers again and again under load, with two replicas of every expert, and says what clients saw.

    /usr/bin/python3 -m tests.cluster.fault_campaign --kind layer --faults 100 --signal KILL --log faults.jsonl

Every answer is compared, token by token, with that of an undisturbed run. A block of faults is one line in the log; a campaign that was
interrupted goes on behind the lines that are there. The last lines printed are the sums: failed and differing answers (0 is the
promise), and the gaps between tokens, beside those of the quiet run. Needs a built services/cli/ccoe (bazel build //services/cli:ccoe), found through
the link bazel-bin, or named by --ccoe."""

import argparse
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

from tests.cluster import ccoe_process, golden, roles

CLIENTS = 8
REQUESTS = 64  # different ones, over and over
TOKENS = 32


def layer_cluster():
    """Five layer experts on four workers, each of them on two."""
    folder = golden.bundles()
    first, second = ([f"{folder}/{name}" for name in names] for names in (("code", "math", "law"), ("sql", "medical")))
    return roles.Cluster(f"{golden.MODELS}/ccoe/backbone", bundles=[first, first, second, second])


def ffn_cluster():
    """Eight FFN experts a layer on three workers, each of them on two."""
    return roles.Cluster(f"{golden.MODELS}/mixtral-8x2", expert_workers=3, replicas=2)


class Load:
    """`ccoe bench serve` in the background."""

    def __init__(self, cluster, kind, dataset, seconds, more, pace=("--max-concurrency", str(CLIENTS))):
        words = [ccoe_process.CCOE, "bench", "serve", "--server", cluster.grpc, "--duration", str(seconds), *pace,
                 "--dataset-name", "custom", "--dataset-path", dataset, "--custom-output-len", str(TOKENS), "--raw", "--ignore-eos", "--json",
                 *more]
        if kind == "layer":
            words.append("--all-experts")
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait(self):
        """(report, what it said of failures and differences)."""
        out, err = self.process.communicate(timeout=900)
        try:
            return json.loads(out), err
        except json.JSONDecodeError:
            sys.exit(f"bench serve: {self.process.returncode}\n{out}\n{err}")


def disturb(cluster, rng, number):
    """One fault, and the worker's way back."""
    victim = cluster.roles[rng.choice(cluster.experts)]
    time.sleep(rng.uniform(0.2, 0.8))
    when = time.time()
    victim.signal(number)
    time.sleep(rng.uniform(1.5, 2.0))  # long enough for a stopped one to be noticed
    victim.kill()
    victim.start()
    cluster.await_experts()
    return {"at": when, "victim": victim.name}


def write_dataset(kind, path):
    """REQUESTS different prompts, as `bench serve` reads them."""
    prompts = golden.prompts("ccoe/backbone" if kind == "layer" else "mixtral-8x2")
    with open(path, "w", encoding="utf-8") as file:
        for i in range(REQUESTS):
            ids = prompts[i % len(prompts)]["ids"]
            print(json.dumps({"id": f"r{i}", "token_ids": ids[: max(2, len(ids) - i // len(prompts))]}), file=file)


def worst_gap(report, begin, end):
    """Between two tokens of one answer, in ms, in the seconds that the span touches."""
    first = report["start_unix_seconds"]
    return max((gap for second, gap in enumerate(report["worst_gap_ms_by_second"]) if begin - 1 <= first + second <= end), default=0.0)


def run_block(cluster, options, dataset, quiet, rng, count):
    load = Load(cluster, options.kind, dataset, 3600, ["--compare", quiet])
    faults = [disturb(cluster, rng, options.number) for _ in range(count)]
    load.process.send_signal(signal.SIGINT)
    report, said = load.wait()
    for fault, next_fault in zip(faults, faults[1:] + [{"at": time.time()}]):
        fault["worst_gap_ms"] = worst_gap(report, fault["at"], next_fault["at"])
    equal, different = map(int, re.search(r"(\d+) equal, (\d+) different", said).groups())
    return {"kind": options.kind, "signal": options.signal, "faults": faults, "completed": report["completed"], "failed": report["failed"],
            "refused": report["refused"]["count"], "equal": equal, "different": different, "said": said[-2000:]}


def quantile(values, q):
    """The nearest rank: of 100 values the 99th smallest is the 0.99 quantile."""
    values = sorted(values)
    return values[max(0, math.ceil(q * len(values)) - 1)] if values else 0.0


def summarise(lines, quiet_gap):
    gaps = [fault["worst_gap_ms"] for line in lines for fault in line["faults"]]
    total = {key: sum(line[key] for line in lines) for key in ("completed", "failed", "refused", "equal", "different")}
    print(f"{len(gaps)} faults, {total['completed']} answers, {total['failed']} failed, {total['refused']} refused, {total['different']} different "
          f"({total['equal']} compared equal)")
    print(f"worst gap between tokens: {max(gaps):.0f} ms, p99 over faults {quantile(gaps, 0.99):.0f} ms, median {quantile(gaps, 0.5):.0f} ms; "
          f"quiet run {quiet_gap:.0f} ms")
    return total["failed"] == 0 and total["different"] == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("layer", "ffn"), required=True)
    parser.add_argument("--signal", choices=("KILL", "STOP"), required=True)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--block", type=int, default=20, help="faults a line of the log")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", required=True)
    parser.add_argument("--ccoe", default="bazel-bin/services/cli/ccoe")
    options = parser.parse_args()
    options.number = getattr(signal, f"SIG{options.signal}")
    ccoe_process.CCOE = os.path.abspath(options.ccoe)

    lines = []
    if os.path.exists(options.log):
        with open(options.log, encoding="utf-8") as log:
            lines = [line for line in map(json.loads, log) if (line["kind"], line["signal"]) == (options.kind, options.signal)]
    done = sum(len(line["faults"]) for line in lines)
    rng = random.Random(options.seed + done)
    with (layer_cluster if options.kind == "layer" else ffn_cluster)() as cluster, tempfile.TemporaryDirectory() as folder:
        cluster.await_experts()
        dataset, quiet = f"{folder}/prompts.jsonl", f"{folder}/quiet.jsonl"
        write_dataset(options.kind, dataset)
        report, _ = Load(cluster, options.kind, dataset, 20, ["--record", quiet]).wait()
        quiet_gap = max(report["worst_gap_ms_by_second"], default=0.0)
        while done < options.faults:
            line = run_block(cluster, options, dataset, quiet, rng, min(options.block, options.faults - done))
            lines.append(line)
            done += len(line["faults"])
            with open(options.log, "a", encoding="utf-8") as log:
                print(json.dumps(line), file=log)
            print(f"{done} of {options.faults} faults: {line['completed']} answers, {line['failed']} failed, {line['different']} different", flush=True)
    sys.exit(0 if summarise(lines, quiet_gap) else 1)


if __name__ == "__main__":
    main()
