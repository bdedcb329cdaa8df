# SPDX-License-Identifier: Apache-2.0
"""What expert workers hold in memory beside their own tensors: the table of docs/moe.md.

From the repository's root, after `bazel build //services/cli:ccoe`:

    PYTHONPATH=. python3 tests/benchmarks/expert_memory.py [--layers 10] [--workers 1 2 3]

Makes a random Mixtral-shaped model (0.48 B parameters with ten layers, about 1 GB on disk), serves it with so many
expert workers, and prints each one's tensors, resident set and the checkpoint's pages in it, after a load of
eight prompts of 200 tokens.
"""

import argparse
import concurrent.futures
import json
import os
import random
import shutil
import tempfile

from tests.cluster import ccoe_process, golden, roles

TOKENIZER = f"{golden.MODELS}/mixtral-8x2"
MODEL_FILES = ("tokenizer.json", "tokenizer_config.json")


def resident_bytes(pid):
    """(resident set, pages of checkpoint files in it) of a process."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as rollup:
        whole = next(int(line.split()[1]) for line in rollup if line.startswith("Rss:"))
    checkpoint, in_checkpoint = 0, False
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as maps:
        for line in maps:
            first = line.split()[0]
            if not first.endswith(":"):  # the head of a mapping: its addresses first, its file last
                in_checkpoint = line.rstrip().endswith(".safetensors")
            elif in_checkpoint and first == "Rss:":
                checkpoint += int(line.split()[1])
    return whole * 1024, checkpoint * 1024


def make_model(folder, layers):
    """A random model with a tokenizer of another, whose ids it can take."""
    code, _, error = ccoe_process.run(["bench", "moe", "--dir", folder, "--keep", "--layers", str(layers), "--rounds", "1"])
    if code != 0:
        raise RuntimeError(error)
    model = next(root for root, _, files in os.walk(folder) if "config.json" in files)
    for name in MODEL_FILES:
        shutil.copy(f"{TOKENIZER}/{name}", model)
    with open(f"{model}/config.json", encoding="utf-8") as file:
        return model, json.load(file)["vocab_size"]


def load(cluster, vocabulary):
    """Eight prompts of 200 tokens at once: rows for every expert."""
    draw = random.Random(1)
    prompts = [[draw.randrange(1, vocabulary) for _ in range(200)] for _ in range(8)]

    def ask(ids):
        return cluster.client.call("ccoe.v1.Inference", "Generate", {
            "token_ids": {"ids": ids}, "sampling": {"temperature": 0, "max_tokens": 4, "ignore_eos": True}}, timeout=300)

    with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
        list(pool.map(ask, prompts))


def measure(model, vocabulary, workers):
    """Prints a row for each expert worker."""
    with roles.Cluster(model, expert_workers=workers) as cluster:
        load(cluster, vocabulary)
        status = cluster.client.call("ccoe.v1.Control", "GetStatus", {})[0]
        for worker in sorted(status.workers, key=lambda w: w.worker_id):
            if worker.ffn_bytes == 0:
                continue
            whole, checkpoint = resident_bytes(cluster.roles[worker.worker_id].process.pid)
            print(f"{workers:7d}  {worker.worker_id:10s} {worker.ffn_bytes / 1e6:11.1f} {whole / 1e6:12.1f} "
                  f"{whole / worker.ffn_bytes:6.2f} {checkpoint / worker.ffn_bytes - 1:+17.2%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--ccoe", default="bazel-bin/services/cli/ccoe")
    given = parser.parse_args()
    ccoe_process.CCOE = given.ccoe
    with tempfile.TemporaryDirectory() as folder:
        model, vocabulary = make_model(f"{folder}/model", given.layers)
        print("workers  worker     tensors, MB  resident, MB  ratio  checkpoint pages")
        for workers in given.workers:
            measure(model, vocabulary, workers)


if __name__ == "__main__":
    main()
