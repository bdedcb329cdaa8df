# SPDX-License-Identifier: Apache-2.0
"""Workers that hold FFN experts are killed (SIGKILL) or stopped (SIGSTOP) at random moments under load. With replicas nobody notices:
every answer is that of an undisturbed run. Without, the queries that needed the worker end soon with an error that names it, and all
others are unharmed. CCOE_FAULT_ROUNDS sets how often (default 6 and 3 times)."""

import concurrent.futures
import os
import random
import signal
import time
import unittest

import grpc

from tests.cluster import golden, roles

MODEL = "mixtral-8x2"
FOLDER = f"{golden.MODELS}/{MODEL}"
QUERIES = 16
TOKENS = 48
# Far beyond what it takes; figures are printed.
BOUND_SECONDS = 20


def generate(client, prompt):
    events = client.call("ccoe.v1.Inference", "Generate", {
        "token_ids": {"ids": prompt["ids"]}, "sampling": {"temperature": 0, "max_tokens": TOKENS, "ignore_eos": True, "logprobs": 5}})
    tokens = [token for event in events for token in event.delta.tokens]
    return [(t.id, t.logprob) for t in tokens]


class Load:
    """Queries that run until the load is stopped, and what became of each."""

    def __init__(self, client, prompts, expected):
        self.client, self.prompts, self.expected = client, prompts, expected
        self.stopping = False
        self.pool = concurrent.futures.ThreadPoolExecutor(QUERIES)
        self.futures = [self.pool.submit(self._run, i) for i in range(QUERIES)]

    def _run(self, first):
        """(right answers, [(time of failure, error)]) of one client."""
        right, errors = 0, []
        number = first
        while not self.stopping:
            index = number % len(self.prompts)
            number += 1
            try:
                got = generate(self.client, self.prompts[index])
            except grpc.RpcError as error:
                errors.append((time.monotonic(), error))
                time.sleep(0.05)
                continue
            assert got == self.expected[index], f"prompt {index}: {got} instead of {self.expected[index]}"
            right += 1
        return right, errors

    def stop(self):
        self.stopping = True
        results = [future.result(timeout=120) for future in self.futures]
        self.pool.shutdown()
        return sum(right for right, _ in results), [e for _, errors in results for e in errors]


class MoeFaultsTest(unittest.TestCase):
    def rounds(self, default):
        return int(os.environ.get("CCOE_FAULT_ROUNDS", default))

    def disturb(self, cluster, rng):
        """Kills or stops a worker at a random moment; returns it and when."""
        time.sleep(rng.uniform(0.05, 0.6))
        victim = cluster.roles[rng.choice(cluster.experts)]
        how = rng.choice([signal.SIGKILL, signal.SIGSTOP])
        victim.signal(how)
        return victim, how, time.monotonic()

    def revive(self, cluster, victim):
        """The worker starts anew; a stopped one is killed first."""
        victim.kill()
        victim.start()
        cluster.await_experts()

    def test_with_replicas_every_answer_is_that_of_an_undisturbed_run(self):
        rng = random.Random(7)
        prompts = golden.prompts(MODEL)
        with roles.Cluster(FOLDER, expert_workers=3, replicas=2) as cluster:
            expected = [generate(cluster.client, prompt) for prompt in prompts]
            for prompt, tokens in zip(prompts, expected):
                self.assertEqual([id for id, _ in tokens][:32], prompt["greedy_ids"])
            answers = 0
            for number in range(self.rounds(6)):
                load = Load(cluster.client, prompts, expected)
                victim, how, _ = self.disturb(cluster, rng)
                time.sleep(1.5)
                right, errors = load.stop()
                self.assertEqual([str(e) for _, e in errors], [], f"round {number}: {how.name} of {victim.name}")
                answers += right
                self.revive(cluster, victim)
            print(f"{answers} answers, all as undisturbed")

    def test_without_a_replica_those_who_needed_it_are_told_soon(self):
        rng = random.Random(8)
        prompts = golden.prompts(MODEL)
        slowest = 0.0
        with roles.Cluster(FOLDER, expert_workers=8, more_backbone=["--replica-patience=0.3"]) as cluster:
            expected = [generate(cluster.client, prompt) for prompt in prompts]
            for number in range(self.rounds(3)):
                load = Load(cluster.client, prompts, expected)
                victim, how, when = self.disturb(cluster, rng)
                time.sleep(3)
                _, errors = load.stop()
                self.assertTrue(errors, f"round {number}: {how.name} of {victim.name} hurt nobody")
                slowest = max(slowest, min(at for at, _ in errors) - when)
                for text in {error.details() for _, error in errors}:
                    self.assertRegex(text, r"step \d+.* of layer \d")
                    self.assertRegex(text, rf"expert worker {victim.name}\b")
                self.assertEqual({error.code() for _, error in errors}, {grpc.StatusCode.UNAVAILABLE})
                self.revive(cluster, victim)
                self.assertEqual([generate(cluster.client, prompt) for prompt in prompts], expected)
        print(f"the first error came at most {slowest:.2f} s after the fault")
        self.assertLess(slowest, BOUND_SECONDS)


if __name__ == "__main__":
    unittest.main()
