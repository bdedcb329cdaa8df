# SPDX-License-Identifier: Apache-2.0
"""Sends many times the queries that 8 clients in a closed loop get answered, for minutes, and says what became of them, of the links and
of the memory.

    /usr/bin/python3 -m tests.cluster.overload_campaign --kind layer --times 10 --seconds 300

First a closed loop of 8 clients measures what these get, not what the cluster can answer at most, and records the answers; then an open loop
sends --times as many a second. Printed: queries answered (and how many a second), refused (and how many of these with a retry hint), failed
and different; swaps that failed with their reasons, of which "link broken" should be none; and the resident memory of each role, the mean of
the second half of the time against that of the first. Needs a built services/cli/ccoe, as fault_campaign.py does."""

import argparse
import os
import re
import sys
import tempfile
import time

from tests.cluster import ccoe_process, fault_campaign


def resident_mb(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def failed_swaps(cluster):
    """{reason: count} over the backbone workers."""
    counts = {}
    for role in cluster.roles.values():
        if not role.name.startswith("backbone"):
            continue
        address = re.search(r"/healthz on (\S+)", role.output()).group(1)
        _, text = ccoe_process.http_get(address, "/metrics")
        for reason, count in re.findall(r"^ccoe_backbone_failed_swaps_total\{[^}]*reason=\"([^\"]*)\"[^}]*\} (\S+)", text, re.MULTILINE):
            counts[reason] = counts.get(reason, 0) + int(float(count))
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("layer", "ffn"), required=True)
    parser.add_argument("--times", type=float, default=10)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--ccoe", default="bazel-bin/services/cli/ccoe")
    options = parser.parse_args()
    ccoe_process.CCOE = os.path.abspath(options.ccoe)
    make = fault_campaign.layer_cluster if options.kind == "layer" else fault_campaign.ffn_cluster
    with make() as cluster, tempfile.TemporaryDirectory() as folder:
        cluster.await_experts()
        dataset, quiet = f"{folder}/prompts.jsonl", f"{folder}/quiet.jsonl"
        fault_campaign.write_dataset(options.kind, dataset)
        report, _ = fault_campaign.Load(cluster, options.kind, dataset, 20, ["--record", quiet]).wait()
        closed_loop = report["request_throughput"]
        rate = options.times * closed_loop
        print(f"{fault_campaign.CLIENTS} clients in a closed loop get {closed_loop:.0f} queries/s; now {rate:.0f} queries/s are sent", flush=True)
        load = fault_campaign.Load(cluster, options.kind, dataset, options.seconds, ["--compare", quiet], ("--request-rate", f"{rate:.1f}"))
        samples = {name: [] for name in cluster.roles}
        while load.process.poll() is None:
            for name, role in cluster.roles.items():
                samples[name].append(resident_mb(role.process))
            time.sleep(1)
        report, said = load.wait()
        refused = report["refused"]
        print(f"{report['completed']} answered ({report['request_throughput']:.0f}/s), {refused['count']} refused "
              f"({refused['with_retry_hint']} with a retry hint), {report['failed']} failed; {said.strip().splitlines()[-1]}")
        print(f"failed swaps: {failed_swaps(cluster) or 'none'}")
        for name, values in samples.items():
            half = len(values) // 2
            first, second = (sum(part) / max(1, len(part)) for part in (values[:half], values[half:]))
            print(f"{name}: resident {first:.1f} MB in the first half, {second:.1f} MB in the second, {max(values):.1f} MB at most")
    sys.exit(0 if report["failed"] == 0 else 1)


if __name__ == "__main__":
    main()
