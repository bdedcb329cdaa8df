# SPDX-License-Identifier: Apache-2.0
"""Runs ccoe for the parts of gpu_check: which binary, on which device, and how a part ends."""

import json
import os
import subprocess

NOT_RUN = 77  # the exit code of a part that cannot run here

CCOE = os.environ["CCOE"]
DEVICE = os.environ.get("DEVICE", "cuda")
GOLDEN = os.environ["GOLDEN"]
WORK = os.environ["WORK"]
ON_CPU = DEVICE == "cpu"


def device_flags(math, device=DEVICE):
    """What puts a command on the device; the CPU has one way of computing and is the default."""
    return [] if device == "cpu" else ["--device", device, "--math", math]


def end_without_cuda(errors):
    """Ends the part as not run where ccoe says that it has no CUDA code."""
    if "built without CUDA" in errors:
        finish(NOT_RUN, f"{CCOE} was built without CUDA")


def run(words, seconds=300):
    """Standard output of `ccoe WORDS`; a failure ends the part."""
    done = subprocess.run([CCOE, *words], capture_output=True, text=True, timeout=seconds, check=False)
    end_without_cuda(done.stderr)
    if done.returncode != 0:
        raise RuntimeError(f"ccoe {' '.join(words)}: exit code {done.returncode}\n{done.stderr.strip()}")
    return done.stdout


def write_requests(path, requests):
    """(id, token ids) pairs as a request file."""
    with open(path, "w", encoding="utf-8") as file:
        for name, ids in requests:
            file.write(json.dumps({"id": name, "token_ids": ids}) + "\n")


def read_answers(text):
    """Token ids by request id, of what `generate --json` printed."""
    return {answer["id"]: answer["token_ids"] for answer in map(json.loads, text.splitlines())}


GREEDY = ["--temperature", "0", "--max-tokens", "32", "--ignore-eos", "--json"]


def finish(code, summary):
    """The part's last word, from any thread: its line in the table, and its exit code (0 passed, NOT_RUN, anything else failed)."""
    print(f"RESULT: {summary}", flush=True)
    os._exit(code)
