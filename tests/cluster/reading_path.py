# SPDX-License-Identifier: Apache-2.0
"""Lists the files that a decode step walks through, and those that a request walks through to its first token.

    bazel --output_base=/tmp/coverage build --symlink_prefix=/ --collect_code_coverage --instrumentation_filter='^//(runtime|services)' --copt=-O0 //services/cli:ccoe
    python3 -m tests.cluster.reading_path --output-base /tmp/coverage

Runs router, gateway, a backbone worker and an expert worker of that build over the golden model, once with few tokens (or requests) and once with
many more, and compares gcov's counts: a line that ran at least once more for each token more is part of a decode step; one that ran
once more for each request more is part of the way to a first token. Heartbeats and other work by the clock are too rare to be taken for either.

A header with the source of the same name is one file. Kernels, generated code and the client are not counted. A decode step is what the two
workers do; the way to the first token is what all four processes do, without the files of the decode step, which a reader has seen by then."""

import argparse
import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile

from tests.cluster import ccoe_process, golden, roles

MORE = 200  # tokens or requests more: far more often than anything runs by the clock meanwhile
GROWN = MORE * 9 // 10  # what ran by the clock in the shorter run may hide a few
WORKERS = ("backbone-0", "expert-0")


def ask(cluster, requests, tokens):
    prompt = golden.prompts("ccoe/math")[0]["ids"][:8]
    for _ in range(requests):
        events = cluster.client.call("ccoe.v1.Inference", "Generate", {
            "token_ids": {"ids": prompt}, "expert": "math", "sampling": {"temperature": 0, "max_tokens": tokens, "ignore_eos": True}})
        got = sum(len(event.delta.tokens) for event in events)
        assert got == tokens, f"{got} tokens instead of {tokens}"


def run(folder, requests, tokens):
    """Role -> (file, line) -> how often it ran."""
    def environment(role):
        return {"GCOV_PREFIX": f"{folder}/{role}"}

    with roles.Cluster(f"{golden.MODELS}/ccoe/backbone", bundles=[[f"{golden.bundles()}/math"]], environment=environment) as cluster:
        cluster.await_experts()
        ask(cluster, requests, tokens)
    return {role: counts(f"{folder}/{role}") for role in os.listdir(folder)}


def counts(folder):
    """(file, line) -> how often a process ran it, over all objects that hold it."""
    objects = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if name.endswith(".gcda")]
    assert objects, f"{folder} holds no counts: is it a build with --collect_code_coverage, and did its process end in peace?"
    read = []
    for data in objects:
        notes = data[:-len("gcda")] + "gcno"
        built = f"{EXECUTION_ROOT}/{notes[notes.index('/bazel-out/') + 1:]}"
        if os.path.exists(built):  # generated code has none
            shutil.copy(built, notes)
            read.append(data)
    lines = collections.Counter()
    done = subprocess.run(["gcov", "--json-format", "--stdout", *read], capture_output=True, text=True, check=True)
    for report in done.stdout.splitlines():
        for file in json.loads(report)["files"]:
            name = file["file"].split("/bin/")[-1]
            if name.startswith(("runtime/", "services/")) and ".pb." not in name:
                for line in file["lines"]:
                    lines[name, line["line_number"]] += line["count"]
    return lines


def grown(few, many, chosen):
    """Unit -> lines of it that ran once more for each token or request more."""
    units = collections.defaultdict(set)
    for role in chosen:
        for (name, line), count in many[role].items():
            if count - few[role].get((name, line), 0) >= GROWN:
                units[os.path.splitext(name)[0]].add((name, line))
    return units


def show(title, units, with_lines):
    print(f"{title}: {len(units)} files, {sum(map(len, units.values()))} lines")
    for unit, lines in sorted(units.items()):
        print(f"  {len(lines):4} lines of {unit}")
        for name, line in sorted(lines) if with_lines else ():
            with open(f"{EXECUTION_ROOT}/{name}", encoding="utf-8") as file:
                print(f"         {os.path.basename(name)}:{line}: {file.read().splitlines()[line - 1].strip()}")


def main():
    global EXECUTION_ROOT
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-base", required=True, help="of the coverage build")
    parser.add_argument("--lines", action="store_true", help="print every line, too")
    options = parser.parse_args()
    EXECUTION_ROOT = f"{options.output_base}/execroot/ccoe"
    ccoe_process.CCOE = f"{EXECUTION_ROOT}/bazel-out/k8-opt/bin/services/cli/ccoe"

    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        os.environ["GCOV_PREFIX"] = f"{folder}/client"
        for name, requests, tokens in (("base", 1, 8), ("tokens", 1, 8 + MORE), ("requests", 1 + MORE, 1)):
            print(f"running {requests} requests of {tokens} tokens ...", file=sys.stderr, flush=True)
            runs[name] = run(f"{folder}/{name}", requests, tokens)
    step = grown(runs["base"], runs["tokens"], WORKERS)
    streaming = grown(runs["base"], runs["tokens"], ["gateway"])
    request = grown(runs["base"], runs["requests"], runs["base"])
    show("one decode step", step, options.lines)
    show("each token in the gateway (not counted: part of what follows)", streaming, options.lines)
    show("from request to first token, beside those", {unit: lines for unit, lines in request.items() if unit not in step}, options.lines)


if __name__ == "__main__":
    main()
