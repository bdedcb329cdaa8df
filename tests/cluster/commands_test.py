# SPDX-License-Identifier: Apache-2.0
"""The client commands against a running cluster, and what they say when something is wrong."""

import json
import os
import signal
import socket
import stat
import subprocess
import tempfile
import time
import unittest

from tests.cluster import ccoe_process, golden

RULES = """
rules { name: "sums" expert: "math" keyword: "plus" }
rules { name: "queries" expert: "sql" pattern: "(?i)select .* from" }
"""


def write(name, text):
    folder = tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR"))
    with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
        file.write(text)
    return f"{folder}/{name}"


class CommandsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = ccoe_process.Cluster(golden.up_flags("--rules", write("rules.textproto", RULES), "--expert-workers", "2"))
        cls.addClassCleanup(cls.cluster.stop)
        cls.cluster.wait_ready()

    @classmethod
    def tearDownClass(cls):
        assert cls.cluster.stop() == 0, cls.cluster.output()

    def ccoe(self, *words, stdin=None):
        return ccoe_process.run(list(words[:1]) + ["--server", self.cluster.grpc] + list(words[1:]), stdin)

    def test_generate_streams_text_and_prints_json(self):
        code, out, error = self.ccoe("generate", "--raw", "--temperature", "0", "--max-tokens", "8", "--ignore-eos", "--expert", "law", "Hello")
        self.assertEqual(code, 0, error)
        self.assertTrue(out.strip("\n"))
        self.assertIn("law@1", error)
        prompt = golden.prompts("ccoe/law")[0]
        requests = write("requests.jsonl", json.dumps({"id": "a", "token_ids": prompt["ids"]}) + "\n")
        code, out, error = self.ccoe("generate", "--requests", requests, "--temperature", "0", "--max-tokens", "32", "--ignore-eos",
                                     "--expert", "law", "--json")
        self.assertEqual(code, 0, error)
        line = json.loads(out)
        for part in ("queue_seconds", "prefill_seconds", "decode_seconds"):
            self.assertGreater(line[part], 0)
        self.assertEqual(line["token_ids"], prompt["greedy_ids"])
        self.assertEqual(line["finish_reason"], "length")

    def test_stop_strings_end_the_answer_without_standing_in_it(self):
        prompt = golden.prompts("ccoe/law")[1]
        whole = prompt["greedy_text"]
        stop = whole[3:6]
        code, out, error = self.ccoe("generate", "--requests", write("r.jsonl", json.dumps({"id": "a", "token_ids": prompt["ids"]})),
                                     "--temperature", "0", "--max-tokens", "32", "--ignore-eos", "--expert", "law", "--json", "--stop", stop)
        self.assertEqual(code, 0, error)
        line = json.loads(out)
        self.assertEqual(line["text"], whole[:whole.index(stop)])
        self.assertEqual(line["finish_reason"], "stop")

    def test_route_says_where_and_why(self):
        for words, expert, reason in ((["2 plus 2"], "math@1", "rule"), (["Select a From b"], "sql@1", "rule"),
                                      (["hello"], "base", "default"), (["hello", "--expert", "law"], "law@1", "explicit")):
            code, out, error = self.ccoe("route", "--json", *words)
            self.assertEqual(code, 0, error)
            line = json.loads(out)
            self.assertEqual((line["expert"], line["reason"]), (expert, reason))
            self.assertTrue(line["explanation"])
        self.assertEqual(self.ccoe("route", "--expert", "nobody", "hello")[0], 1)

    def test_status_lists_workers_and_experts(self):
        code, out, error = self.ccoe("status", "--json")
        self.assertEqual(code, 0, error)
        status = json.loads(out)
        self.assertEqual(len(status["workers"]), 3)
        self.assertEqual({e["expert"]["name"] for e in status["experts"]}, set(golden.EXPERTS))
        code, out, _ = self.ccoe("status")
        self.assertEqual(code, 0)
        self.assertIn("medical@1", out)

    def test_chat_answers_each_line_and_knows_its_commands(self):
        code, out, error = self.ccoe("chat", "--max-tokens", "4", "--temperature", "0", "--expert", "math", stdin="hi\n/expert base\nho\n/new\n/quit\n")
        self.assertEqual(code, 0, error)
        self.assertIn("[math@1", out)
        self.assertIn("[base", out)

    def test_eval_and_ask_score_answers(self):
        question = {"id": "g1", "domain": "general", "question": "hi", "answer": "no model says this", "check": "exact"}
        folder = os.path.dirname(write("general.jsonl", json.dumps(question) + "\n"))
        code, out, error = self.ccoe("eval", "--questions", folder, "--json", "--max-tokens", "4")
        self.assertEqual(code, 0, error)
        self.assertEqual(json.loads(out)["general"]["base"]["n"], 1)
        self.assertEqual(json.loads(out)["general"]["base"]["right"], 0)
        code, out, error = self.ccoe("ask", "--questions", folder, "--max-tokens", "4")
        self.assertEqual(code, 0, error)
        self.assertIn("1 asked, 1 went to the right place, 0 answered rightly", out)


class WithoutClusterTest(unittest.TestCase):
    def test_a_missing_server_is_exit_code_3(self):
        nobody = f"127.0.0.1:{ccoe_process.free_port()}"
        for command in (["generate", "hi"], ["route", "hi"], ["status"], ["chat"]):
            code, _, error = ccoe_process.run(command[:1] + ["--server", nobody, "--timeout", "20"] * (command[0] != "status")
                                              + (["--server", nobody] if command[0] == "status" else []) + command[1:], stdin="")
            self.assertEqual(code, 3, (command, error))
            self.assertIn(nobody, error)

    def test_up_explains_what_is_wrong_and_leaves_nothing_running(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            cases = [
                (["--model", "nowhere"], "nowhere"),
                (golden.up_flags("--listen", f"127.0.0.1:{port}"), str(port)),
                (golden.up_flags("--http", f"127.0.0.1:{port}"), str(port)),
                (golden.up_flags("--rules", write("bad.textproto", 'rules { name: "x" expert: "math" pattern: "(" }')), "x"),
                (golden.up_flags("--rules", write("bad.textproto", "rules {\n nonsense: 1 }")), ":2:"),
                (golden.up_flags("--rules", write("deep.textproto", "rules{" * 100_000)), "deep.textproto:1:"),
                (["--model", f"{golden.MODELS}/mixtral-8x2", "--placement", write("deep.textproto", "workers{shards{" * 50_000)], "deep.textproto:1:"),
                (["--model", f"{golden.MODELS}/llama-gqa", "--experts", golden.bundles()], "another base"),
            ]
            for flags, words in cases:
                ports = [] if "--listen" in flags else ["--listen", f"127.0.0.1:{ccoe_process.free_port()}"]
                ports += [] if "--http" in flags else ["--http", f"127.0.0.1:{ccoe_process.free_port()}"]
                code, _, error = ccoe_process.run(["up"] + flags + ports)
                self.assertEqual(code, 1, (flags, error))
                self.assertIn(words, error)

    def test_a_placement_nested_without_end_is_refused(self):
        deep = write("deep.textproto", "workers{shards{" * 50_000)
        code, _, error = ccoe_process.run(["placement", "check", "--model", f"{golden.MODELS}/mixtral-8x2", deep])
        self.assertEqual(code, 1, error)
        self.assertIn("deep.textproto:1:", error)

    def test_output_that_cannot_be_written_is_exit_code_1(self):
        def tokenize(redirect, lines):
            return subprocess.run(["bash", "-c", f'set -o pipefail; "$0" tokenize --model {golden.MODELS}/llama-gqa {redirect}', ccoe_process.CCOE],
                                  input="Hello\n" * lines, capture_output=True, text=True, timeout=300, check=False)
        for redirect, reason in (("> /dev/full", "No space left"), (">&-", "Bad file descriptor"), ("| true", "Broken pipe")):
            for lines in (1, 20_000):
                if "|" in redirect and lines == 1:
                    continue  # may be written before the reader is gone
                done = tokenize(redirect, lines)
                self.assertEqual(done.returncode, 1, (redirect, done.stderr))
                self.assertIn("ccoe tokenize: standard output: cannot be written: " + reason, done.stderr)
        self.assertEqual(tokenize("> /dev/null", 3).returncode, 0)

    def test_score_writes_to_what_its_output_leads_to(self):
        folder = tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR"))
        requests = write("r.jsonl", json.dumps({"id": "a", "token_ids": [1, 2, 3]}))
        words = ["score", "--model", f"{golden.MODELS}/llama-gqa", "--requests", requests, "--output"]
        self.assertEqual(ccoe_process.run(words + [f"{folder}/plain"])[0], 0)
        with open(f"{folder}/plain", "rb") as file:
            expected = file.read()
        os.mkfifo(f"{folder}/fifo")
        with subprocess.Popen(["cat", f"{folder}/fifo"], stdout=subprocess.PIPE) as reader:
            code, _, error = ccoe_process.run(words + [f"{folder}/fifo"])
            self.assertEqual(code, 0, error)
            self.assertEqual(reader.communicate(timeout=60)[0], expected)
        self.assertTrue(stat.S_ISFIFO(os.stat(f"{folder}/fifo").st_mode))
        piped = subprocess.run([ccoe_process.CCOE] + words + ["/dev/stdout"], capture_output=True, timeout=300, check=False)
        self.assertEqual((piped.returncode, piped.stdout), (0, expected))
        code, _, error = ccoe_process.run(words + ["/dev/full"])
        self.assertEqual(code, 1)
        self.assertIn("/dev/full: cannot be written: No space left", error)
        os.symlink("plain", f"{folder}/link")
        self.assertEqual(ccoe_process.run(words + [f"{folder}/link"])[0], 0)
        self.assertTrue(os.path.islink(f"{folder}/link"))
        self.assertEqual(sorted(os.listdir(folder)), ["fifo", "link", "plain"])

    def test_sigterm_lets_a_running_answer_end(self):
        with ccoe_process.Cluster(golden.up_flags()) as cluster:
            client = subprocess.Popen([ccoe_process.CCOE, "generate", "--server", cluster.grpc, "--raw", "--temperature", "0", "--max-tokens",
                                       "200", "--ignore-eos", "--expert", "code", "--json", "Hello"], stdout=subprocess.PIPE, text=True)
            until = time.monotonic() + 60
            while "ccoe_backbone_running_queries{worker=\"backbone-0\"} 1" not in cluster.get("/metrics")[1] and client.poll() is None and time.monotonic() < until:
                time.sleep(0.005)
            cluster.process.send_signal(signal.SIGTERM)
            out, _ = client.communicate(timeout=120)
            self.assertEqual(client.returncode, 0)
            self.assertEqual(len(json.loads(out)["token_ids"]), 200)
            self.assertEqual(cluster.process.wait(60), 0)

    def test_kill_minus_9_of_a_process_cluster_leaves_no_children(self):
        with ccoe_process.Cluster(golden.up_flags("--processes")) as cluster:
            children = subprocess.run(["pgrep", "-P", str(cluster.process.pid)], capture_output=True, text=True, check=False).stdout.split()
            self.assertGreaterEqual(len(children), 4)
            cluster.process.kill()
            cluster.process.wait()
            until = time.monotonic() + 20
            while any(os.path.exists(f"/proc/{pid}") for pid in children) and time.monotonic() < until:
                time.sleep(0.05)
            self.assertFalse([pid for pid in children if os.path.exists(f"/proc/{pid}")])


if __name__ == "__main__":
    unittest.main()
