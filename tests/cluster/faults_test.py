# SPDX-License-Identifier: Apache-2.0
"""A worker is killed for real while queries run: who needed it is told so at once, all others get the answers they would have got."""

import concurrent.futures
import os
import signal
import subprocess
import time
import unittest

import grpc

from tests.cluster import ccoe_process, golden, load, roles


def worker_pid(cluster, name):
    """The child process that runs worker `name`."""
    lines = subprocess.run(["pgrep", "-P", str(cluster.process.pid), "-a"], capture_output=True, text=True, check=False).stdout.splitlines()
    found = [int(line.split()[0]) for line in lines if f"ccoe[{name}]" in line.split()]
    assert len(found) == 1, (name, lines)
    return found[0]


def answer(client, expert, prompt, tokens=32):
    events = client.call("ccoe.v1.Inference", "Generate", {
        "token_ids": {"ids": prompt["ids"]}, "expert": expert,
        "sampling": {"temperature": 0, "max_tokens": tokens, "ignore_eos": True}})
    return [token.id for event in events for token in event.delta.tokens]


class FaultsTest(unittest.TestCase):
    def start(self, *flags):
        cluster = ccoe_process.Cluster(golden.up_flags("--processes", *flags))
        self.addCleanup(cluster.stop)
        cluster.wait_ready()
        client = ccoe_process.ReflectionClient(cluster.grpc)
        client.learn("ccoe.v1.Inference")
        client.learned = {"ccoe.v1.Inference"}
        return cluster, client

    def refusal(self, client, expert, prompt):
        with self.assertRaises(grpc.RpcError) as caught:
            answer(client, expert, prompt)
        return caught.exception

    def test_a_killed_expert_worker_takes_no_other_query_with_it(self):
        cluster, client = self.start("--expert-workers", "5", "--replica-patience", "0.5")
        status = client.call("ccoe.v1.Control", "GetStatus", {})[0]
        held = {worker.worker_id: [e.name for e in worker.experts] for worker in status.workers if worker.experts}
        victim, lost = next((name, experts[0]) for name, experts in sorted(held.items()))
        others = [name for name in golden.EXPERTS if name != lost] + ["base"]
        prompts = {name: golden.prompts("ccoe/backbone" if name == "base" else f"ccoe/{name}")[0] for name in others}
        lost_prompt = golden.prompts(f"ccoe/{lost}")[0]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            # It computes no more, so that no answer of its expert can end before it dies.
            os.kill(worker_pid(cluster, victim), signal.SIGSTOP)
            needing = [pool.submit(answer, client, lost, lost_prompt) for _ in range(2)]
            running = [pool.submit(answer, client, name, prompts[name]) for name in others for _ in range(2)]
            os.kill(worker_pid(cluster, victim), signal.SIGKILL)
            for name, future in zip([name for name in others for _ in range(2)], running):
                self.assertEqual(future.result(timeout=60), prompts[name]["greedy_ids"], name)
            for future in needing:
                error = future.exception(timeout=60)
                self.assertIsInstance(error, grpc.RpcError)
                self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
                self.assertIn(lost, error.details())
        for _ in range(2):
            refusal = self.refusal(client, lost, lost_prompt)
            self.assertEqual(refusal.code(), grpc.StatusCode.UNAVAILABLE)  # it is known, and may come back
            self.assertIn(lost, refusal.details())
        self.assertEqual(self.refusal(client, "never-there", lost_prompt).code(), grpc.StatusCode.NOT_FOUND)
        for name in others:
            self.assertEqual(answer(client, name, prompts[name]), prompts[name]["greedy_ids"], name)
        self.assertEqual(cluster.stop(), 0, cluster.output())

    def test_queries_wait_for_the_only_worker_of_their_expert_to_come_back(self):
        prompt = golden.prompts("ccoe/sql")[0]
        with roles.Cluster(f"{golden.MODELS}/ccoe/backbone", bundles=[[f"{golden.bundles()}/sql"]]) as cluster:
            self.assertEqual(answer(cluster.client, "sql", prompt), prompt["greedy_ids"])
            request = load.greedy(prompt, 900, expert="sql")
            questions = [load.Question(client) for client in range(2)]
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                before = [pool.submit(load.tokens_of, cluster.client, request, question) for question in questions]
                self.await_condition("both have a token", lambda: all(question.first for question in questions))
                cluster.roles["expert-0"].kill()
                self.assertFalse([future for future in before if future.done()])
                cluster.await_status("expert-0 is gone", lambda status: "expert-0" not in [w.worker_id for w in status.workers])
                after = [pool.submit(answer, cluster.client, "sql", prompt) for _ in range(2)]
                four = "ccoe_gateway_running_requests 4"
                self.await_condition("four wait", lambda: four in ccoe_process.http_get(cluster.http, "/metrics")[1])
                cluster.roles["expert-0"].start()
                for future in before:
                    self.assertEqual([id for id, _ in future.result(timeout=60)][:32], prompt["greedy_ids"])
                for future in after:
                    self.assertEqual(future.result(timeout=60), prompt["greedy_ids"])

    def await_condition(self, what, condition):
        until = time.monotonic() + load.PATIENCE_SECONDS
        while not condition():
            self.assertLess(time.monotonic(), until, what)
            time.sleep(0.005)

    def test_a_replica_takes_over_the_next_queries(self):
        cluster, client = self.start("--expert-workers", "10")
        prompt = golden.prompts("ccoe/sql")[0]
        status = client.call("ccoe.v1.Control", "GetStatus", {})[0]
        victim = sorted(w.worker_id for w in status.workers if [e.name for e in w.experts] == ["sql"])[0]
        os.kill(worker_pid(cluster, victim), signal.SIGKILL)
        until = time.monotonic() + 30
        ids, refusals = None, []
        while ids is None and time.monotonic() < until:
            try:
                ids = answer(client, "sql", prompt)
            except grpc.RpcError as error:
                self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
                refusals.append(error.details())
        self.assertEqual(ids, prompt["greedy_ids"], (refusals[-3:], cluster.output()))


if __name__ == "__main__":
    unittest.main()
