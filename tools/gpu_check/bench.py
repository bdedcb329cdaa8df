# SPDX-License-Identifier: Apache-2.0
"""Part e: `ccoe bench` on the device, each rate against what the device was measured to do in the same run."""

import json
import os
import sys

import ccoe_command

# Names of `ccoe bench --json`, the least they must be on a GPU, and what these kernels could reach there: a product through mma.sync has at most
# about 0.63 of what Hopper's own instructions give cuBLASLt, batch 64 reads the weights once for 64 rows.
WANTED = {
    "decode_1_of_bandwidth": (0.50, 1.0, "decode, batch 1, of the read bandwidth"),
    "prefill_2048_of_gemm": (0.20, 0.63, "prefill of 2048 tokens, of the bf16 GEMM rate"),
    "decode_64_of_decode_1": (20.0, 64.0, "decode, batch 64, times batch 1"),
    "paged_attention_8k_of_bandwidth": (0.50, 1.0, "paged decode attention at 8192 tokens, of the read bandwidth"),
    "grouped_ffn_of_dense": (0.50, 1.0, "grouped FFN (64 experts, top 6, 4096 rows) of the dense rate"),
}

LLAMA_7B = ["--hidden", "4096", "--layers", "32", "--heads", "32", "--kv-heads", "32", "--intermediate", "11008", "--vocabulary", "32000"]
TINY = ["--hidden", "128", "--layers", "2", "--heads", "4", "--kv-heads", "2", "--intermediate", "256", "--vocabulary", "512"]


def shape():
    return os.environ.get("BENCH_FLAGS", "").split() or (TINY if ccoe_command.ON_CPU else LLAMA_7B)


def run_bench():
    """The JSON, and how it was had. The random model stays for part f."""
    folder = os.path.join(ccoe_command.WORK, "bench-7b")
    keep = [] if ccoe_command.ON_CPU else ["--dir", folder, "--keep"]
    words = ["bench", *shape(), *keep, "--rounds", "1" if ccoe_command.ON_CPU else "3", "--json", *ccoe_command.device_flags("bf16")]
    result = json.loads(ccoe_command.run(words, seconds=400).strip().splitlines()[-1])
    with open(os.path.join(ccoe_command.WORK, "bench.json"), "w", encoding="utf-8") as file:
        json.dump(result, file)
    return result, "ccoe " + " ".join(words)


def judge(result):
    """(measures below what is wanted, measures that are missing)."""
    low, missing = [], []
    for name, (least, _, text) in WANTED.items():
        if name not in result:
            missing.append(name)
            continue
        enough = result[name] >= least
        print(f"{'passed' if enough else 'FAILED'}  {text}: {result[name]:.2f}, expected at least {least:g}")
        if not enough:
            low.append(name)
    return low, missing


def main():
    try:
        result, command = run_bench()
    except (RuntimeError, ValueError) as error:
        print(error)
        ccoe_command.finish(1, "ccoe bench failed")
    print(command)
    for name, value in sorted(result.items()):
        print(f"  {name}: {value:.6g}" if isinstance(value, (int, float)) else f"  {name}: {value}")
    shown = ", ".join(f"{name} {value:.2f}" for name, value in result.items() if "_of_" in name)
    if ccoe_command.ON_CPU:
        ccoe_command.finish(0, f"ran, nothing judged on a CPU: {shown}")
    low, missing = judge(result)
    if low:
        ccoe_command.finish(1, f"too slow: {', '.join(low)} ({shown})")
    if missing:
        ccoe_command.finish(ccoe_command.NOT_RUN, f"not measured: {', '.join(missing)} ({shown})")
    ccoe_command.finish(0, shown)


if __name__ == "__main__":
    sys.exit(main())
