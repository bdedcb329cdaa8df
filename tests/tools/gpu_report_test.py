"""The report of a probe's lines: failures first, rates beside what the device does at best, broken lines named."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

REPORT = os.path.abspath("tools/gpu_report.py")

LINES = [
    {"section": "device", "what": "versions", "cuda_driver": 13000, "cuda_runtime": 13000, "cublaslt": "there", "nccl": 22809},
    {"section": "device", "what": "device", "name": "GPU X", "devices": 1, "capability": "9.0", "multiprocessors": 132, "memory_bytes": 150e9,
     "shared_bytes_of_a_block": 232448},
    {"section": "kernels", "kernel": "A", "registers": 64, "local_bytes": 0},
    {"section": "kernels", "kernel": "B", "registers": 255, "local_bytes": 16, "ok": False},
    {"section": "conformance", "what": "all", "tests": 300, "failed": 0},
    {"section": "bits", "what": "cublaslt over segments", "rows": 64, "k": 4096, "cols": 4096, "elements": 1000, "same_bits": 250},
    {"section": "matmul", "kernel": "copy", "us": 10, "gb_per_s": 4000.0},
    {"section": "matmul", "kernel": "cublaslt", "rows": 2048, "us": 10, "gb_per_s": 20.0, "tflop_per_s": 800.0},
    {"section": "matmul", "kernel": "skinny", "kind": "plain", "rows": 1, "tile_rows": 8, "fast": True, "split": False, "us": 39.1, "gb_per_s": 3000.0,
     "tflop_per_s": 3.0},
    {"section": "matmul", "kernel": "tile", "kind": "plain", "rows": 2048, "tile_rows": 128, "fast": True, "split": False, "us": 600, "gb_per_s": 20.0,
     "tflop_per_s": 400.0},
    {"section": "decoder", "model": "7B", "what": "decode", "batch": 1, "us": 5000, "tokens_per_s": 200.0, "weights_gb_per_s": 2800.0},
    {"section": "ranks", "rank": 0, "finding": "Duplicate GPU detected"},
    {"section": "end", "failed": ["kernels"], "not_run": ["captured"]},
]


def report(lines, *more):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", dir=os.environ.get("TEST_TMPDIR")) as file:
        file.write("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
        file.flush()
        return subprocess.run([sys.executable, REPORT, *more, file.name], capture_output=True, text=True, check=True).stdout


class GpuReportTest(unittest.TestCase):
    def test_failures_and_findings_stand_before_rates(self):
        text = report(LINES, "--command", "gpu_check.sh smoke")
        self.assertIn("`gpu_check.sh smoke`", text)
        self.assertLess(text.index("**Failed: 1**"), text.index("Matrix products"))
        self.assertIn('"kernel": "B"', text)
        self.assertIn("finding: ranks: Duplicate GPU", text)
        self.assertIn("did not run: captured", text)

    def test_rates_are_shares_of_what_the_same_run_did_at_best(self):
        rows = {line.split(" | ")[0]: line for line in report(LINES).splitlines() if line.startswith("| ")}
        self.assertIn("| 75 % |", rows["| skinny"])
        self.assertTrue(rows["| tile"].endswith("| 50 % |"), rows["| tile"])
        self.assertIn("| 70 % |", rows["| 7B"])

    def test_a_clean_run_says_that_nothing_failed(self):
        clean = [line for line in LINES if line.get("ok") is not False]
        self.assertIn("**Nothing failed.**", report(clean))

    def test_a_run_that_was_cut_short_says_so_and_keeps_what_it_told(self):
        text = report(LINES[:-1] + ['{"section": "matm'])
        self.assertIn("cut short", text)
        self.assertIn("1 lines could not be read", text)
        self.assertIn("| skinny", text)


if __name__ == "__main__":
    unittest.main()
