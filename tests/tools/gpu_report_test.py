# SPDX-License-Identifier: Apache-2.0
"""The report of a probe's lines: failures first, rates beside what the device does at best, broken lines named."""

import json
import os
import subprocess
import sys
import tempfile
import unicodedata
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
CLEAN = [line for line in LINES[:-1] if line.get("ok") is not False] + [{"section": "end", "failed": [], "not_run": ["captured"]}]


def report(lines, *more):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", dir=os.environ.get("TEST_TMPDIR")) as file:
        file.write("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
        file.flush()
        return subprocess.run([sys.executable, REPORT, *more, file.name], capture_output=True, text=True, encoding="utf-8", check=True).stdout



def of_device(name):
    return {**LINES[1], "name": name}


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
        self.assertIn("**Nothing failed.**", report(CLEAN))

    def test_a_section_that_the_end_calls_failed_and_that_said_nothing_is_a_failure(self):
        text = report([{"section": "end", "failed": ["matmul"], "not_run": []}])
        self.assertIn("**Failed: 1**", text)
        self.assertIn("* matmul: failed and said nothing of it", text)
        self.assertNotIn("Nothing failed", text)
        self.assertIn("**Failed: 2**", report(LINES[:-1] + [{"section": "end", "failed": ["kernels", "ops"], "not_run": []}]))

    def test_what_has_not_said_that_it_passed_has_failed(self):
        self.assertIn("**Failed: 1**", report([{"section": "bits", "ok": None}] + CLEAN))
        self.assertIn("**Failed: 1**", report([{"section": "cluster", "result": "no word of it"}]))
        self.assertIn("**Nothing failed.**", report([{"section": "cluster", "ok": True, "result": "all equal"}]))

    def test_without_an_end_it_is_not_known_what_failed(self):
        for lines in ([], CLEAN[:-1], [{"section": "end"}], [{"section": "end", "failed": 5}]):
            text = report(lines)
            self.assertIn("**Cut short: what failed is not known.**", text)
            self.assertNotIn("Nothing failed", text)
        text = report([{"section": "end", "ok": False, "error": "the probe did not end in time"}])
        self.assertIn("**Failed: 1**", text)
        self.assertIn("cut short", text)

    def test_each_of_several_files_needs_its_end(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", dir=os.environ.get("TEST_TMPDIR")) as empty:
            text = report(CLEAN, empty.name)
            self.assertIn("the run was cut short", text)
            self.assertNotIn("Nothing failed", text)

    def test_a_run_that_was_cut_short_says_so_and_keeps_what_it_told(self):
        text = report(LINES[:-1] + ['{"section": "matm'])
        self.assertIn("cut short", text)
        self.assertIn(f"1 lines could not be read (line {len(LINES)})", text)
        self.assertIn("| skinny", text)

    def test_an_unreadable_line_is_named_and_costs_no_other(self):
        for text in ("[" * 200000, '{"a": ' * 200000, "5", "null", "[1]", '{"deep": ' + "[" * 100 + "]" * 100 + "}", "1" * 5000, "\x00\xff"):
            got = report([text, *CLEAN])
            self.assertIn("1 lines could not be read (line 1)", got, text[:20])
            self.assertIn("**Nothing failed in the lines that could be read.**", got)
            self.assertIn("| 75 % |", got)

    def test_rates_that_are_no_numbers_cost_only_themselves(self):
        # null is how the probe writes what is not finite; a JSON of Python's says NaN.
        for value in (None, float("nan"), float("inf"), "fast", [1], True, 10**400):
            keys = ("us", "gb_per_s", "tflop_per_s", "weights_gb_per_s", "same_bits", "registers")
            strange = [{**line, **{key: value for key in keys if key in line}} for line in CLEAN]
            text = report(strange + CLEAN)
            self.assertIn("| 75 % |", text, value)
            self.assertIn("**Nothing failed.**", text)
            self.assertIn("250 of 1,000", text)
            self.assertRegex(text, r"line \d+: bits: no number: same_bits")
        self.assertIn("| ? |", report([{"section": "matmul", "kernel": "tile", "us": 1.0, "gb_per_s": None, "tflop_per_s": None}]))

    def test_a_line_without_one_of_its_keys_is_named_and_costs_no_other(self):
        for i, line in enumerate(CLEAN[:-1]):
            for key in set(line) - {"section", "kind", "rows", "tile_rows", "fast", "split", "devices", "tflop_per_s", "weights_gb_per_s", "finding",
                                    "rank", "k", "cols", "batch"}:
                if key == "what" and line["section"] in ("device", "conformance"):
                    continue  # then it is another line of that section
                text = report(CLEAN[:i] + [{k: v for k, v in line.items() if k != key}] + CLEAN[i + 1:])
                self.assertIn(f"line {i + 1}: {line['section']}: without {key}", text)
                self.assertIn("Whole decoders", text)
        self.assertIn("line 1: ?: no section", report([{"kernel": "A"}]))

    def test_an_end_that_lists_nothing_is_named(self):
        text = report(CLEAN[:-1] + [{"section": "end", "failed": [], "not_run": 5}])
        self.assertIn(f"line {len(CLEAN)}: end: not_run is no list: 5", text)
        self.assertIn("did not run: 5, [1]", report([{"section": "end", "failed": [], "not_run": [5, [1]]}]))

    def test_values_stay_in_their_cells_and_give_a_terminal_no_orders(self):
        bad = "a|b\\|c\nd\re\x1b[31m\u202e\ud800\u2028| `"
        strange = [{key: value if key == "section" or not isinstance(value, str) else value + bad for key, value in line.items()} for line in CLEAN]
        matmul = {"section": "matmul", "kernel": bad, "kind": bad, "us": 1.0, "gb_per_s": 1.0, "rows": [bad]}
        more = [matmul, {"section": "ops", "op": bad, "cache": bad, "us": 1.0}, {"section": bad, "ok": False, "error": bad},
                {"section": "ops", "not_run": bad}, {"section": "end", "failed": [bad], "not_run": [bad]}]
        text = report(strange + more, "--command", bad.replace("\ud800", ""))
        self.assertEqual([c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")], [])
        row = next(line for line in text.splitlines() if line.startswith("| a"))
        self.assertIn(r"| a\|b\\\|c\\nd\\re\\x1b[31m", row)
        self.assertEqual(row.replace("\\\\", "").replace("\\|", "").count("|"), 12)  # those of eleven cells

    def test_a_file_that_is_not_there_is_an_error(self):
        done = subprocess.run([sys.executable, REPORT, "/nonexistent.jsonl"], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("gpu_report: ", done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_any_locale_does(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", dir=os.environ.get("TEST_TMPDIR"), encoding="utf-8") as file:
            file.write(json.dumps(of_device("GPU \u00fc"), ensure_ascii=False) + "\n")
            file.flush()
            ascii_alone = {**os.environ, "PYTHONIOENCODING": "ascii"}
            done = subprocess.run([sys.executable, REPORT, file.name], capture_output=True, check=True, env=ascii_alone)
        self.assertIn("GPU \u00fc", done.stdout.decode("utf-8"))


if __name__ == "__main__":
    unittest.main()
