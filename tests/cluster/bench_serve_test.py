# SPDX-License-Identifier: Apache-2.0
"""The load generator against a real cluster: its counts, the golden tokens, two runs held against each other, overload, SIGINT."""

import json
import os
import signal
import subprocess
import tempfile
import time
import unittest

from tests.cluster import ccoe_process, golden

QUERIES = 8  # that the gateway takes on at once


def temp(name):
    return f"{tempfile.mkdtemp(dir=os.environ.get('TEST_TMPDIR'))}/{name}"


class BenchServeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = ccoe_process.Cluster(golden.up_flags("--expert-workers", "2", "--max-queries", str(QUERIES)))
        cls.addClassCleanup(cls.cluster.stop)
        cls.cluster.wait_ready()

    def command(self, *words):
        random = [] if "custom" in words else ["--random-input-len", "24", "--random-output-len", "12", "--random-range-ratio", "0.5"]
        return ["bench", "serve", "--server", self.cluster.grpc, "--json", *random, "--ignore-eos", *words]

    def bench(self, *words):
        """(exit code, report, stderr)."""
        code, out, error = ccoe_process.run(self.command(*words))
        return code, json.loads(out) if out else None, error

    def test_answers_are_the_same_bits_whatever_else_is_under_way(self):
        record = temp("alone.jsonl")
        load = ("--num-prompts", "40", "--all-experts", "--zipf", "1")
        code, report, error = self.bench(*load, "--max-concurrency", "1", "--record", record)
        self.assertEqual(code, 0, error)
        self.assertEqual((report["completed"], report["failed"], report["refused"]["count"]), (40, 0, 0))
        self.assertEqual(sum(report["completed_by_expert"].values()), 40)
        self.assertGreater(len(report["completed_by_expert"]), 2)
        with open(record, encoding="utf-8") as file:
            answers = [json.loads(line) for line in file]
        self.assertEqual(report["total_output_tokens"], sum(len(a["token_ids"]) for a in answers))
        self.assertEqual(report["total_input_tokens"], sum(len(a["prompt"]) for a in answers))
        code, report, error = self.bench(*load, "--max-concurrency", str(QUERIES), "--compare", record)
        self.assertEqual(code, 0, error)
        self.assertIn("40 equal", error)
        self.assertLessEqual(report["max_concurrent_requests"], QUERIES)
        # A token that is not the model's is found.
        answers[7]["token_ids"][3] ^= 1
        with open(record, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(a) + "\n" for a in answers)
        code, _, error = self.bench(*load, "--max-concurrency", str(QUERIES), "--compare", record)
        self.assertEqual(code, 1)
        self.assertIn(f"request {answers[7]['id']}: token 3: expected {answers[7]['token_ids'][3]}", error)

    def test_requests_of_a_file_get_the_golden_tokens(self):
        prompts = golden.prompts("ccoe/law")
        requests, record = temp("requests.jsonl"), temp("answers.jsonl")
        with open(requests, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"id": str(i), "token_ids": p["ids"]}) + "\n" for i, p in enumerate(prompts))
        code, report, error = self.bench("--dataset-name", "custom", "--dataset-path", requests, "--custom-output-len", "32", "--num-prompts",
                                         str(2 * len(prompts)), "--max-concurrency", "3", "--expert", "law", "--record", record)
        self.assertEqual(code, 0, error)
        self.assertEqual(report["completed_by_expert"], {"law@1": 2 * len(prompts)})
        with open(record, encoding="utf-8") as file:
            for answer in map(json.loads, file):
                self.assertEqual(answer["token_ids"], prompts[answer["index"] % len(prompts)]["greedy_ids"])

    def test_what_is_too_much_is_refused_with_a_hint_and_the_rest_is_right(self):
        record = temp("quiet.jsonl")
        load = ("--num-prompts", "60", "--expert", "math", "--expert", "base")
        self.assertEqual(self.bench(*load, "--max-concurrency", "2", "--record", record)[0], 0)
        code, report, error = self.bench(*load, "--compare", record)
        self.assertEqual(code, 0, error)
        self.assertGreater(report["refused"]["count"], 0)
        self.assertEqual(report["refused"]["with_retry_hint"], report["refused"]["count"])
        self.assertGreaterEqual(report["refused"]["shortest_hint_ms"], 1)
        self.assertEqual(report["completed"] + report["refused"]["count"], 60)
        self.assertEqual(report["failed"], 0)
        self.assertGreaterEqual(report["completed"], QUERIES)

    def test_an_open_loop_keeps_to_its_duration_and_an_interrupt_keeps_the_report(self):
        code, report, error = self.bench("--request-rate", "20", "--duration", "1", "--goodput", "e2el:60000")
        self.assertEqual(code, 0, error)
        self.assertGreater(report["completed"], 0)
        self.assertEqual(report["request_goodput"], report["request_throughput"])
        bench = subprocess.Popen([ccoe_process.CCOE] + self.command("--max-concurrency", "2", "--duration", "600"), stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 60
        while "ccoe_backbone_running_queries{worker=\"backbone-0\"} 2" not in self.cluster.get("/metrics")[1] and time.monotonic() < until:
            time.sleep(0.005)
        bench.send_signal(signal.SIGINT)
        out, error = bench.communicate(timeout=60)
        self.assertEqual(bench.returncode, 0, error)
        report = json.loads(out)
        self.assertEqual(report["failed"], 0)
        self.assertLessEqual(report["cancelled"], 2)

    def test_an_expert_that_is_not_there_is_an_error_by_code(self):
        code, report, error = self.bench("--num-prompts", "12", "--max-concurrency", "1", "--expert", "nobody", "--expert", "law")
        self.assertEqual(code, 0, error)
        self.assertEqual(set(report["completed_by_expert"]), {"law@1"})
        self.assertEqual([e["code"] for e in report["errors"]], ["NOT_FOUND"])
        self.assertIn("nobody", report["errors"][0]["example"])
        self.assertEqual(report["errors"][0]["count"], report["failed"])
        self.assertEqual(report["completed"] + report["failed"], 12)


if __name__ == "__main__":
    unittest.main()
