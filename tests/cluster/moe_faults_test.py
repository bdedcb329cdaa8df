# SPDX-License-Identifier: Apache-2.0
"""Workers that hold FFN experts are killed (SIGKILL) or stopped (SIGSTOP) at random moments under load. With replicas nobody notices:
every answer is that of an undisturbed run. Without, the queries that needed the worker end soon with an error that names it, and all
others are unharmed. CCOE_FAULT_ROUNDS sets how often (default 6 and 3 times)."""

import os
import random
import signal
import time
import unittest

import grpc

from tests.cluster import golden, load, roles

MODEL = "mixtral-8x2"
FOLDER = f"{golden.MODELS}/{MODEL}"
QUERIES = 16
TOKENS = 48


class MoeFaultsTest(unittest.TestCase):
    def rounds(self, default):
        return int(os.environ.get("CCOE_FAULT_ROUNDS", default))

    def disturb(self, cluster, asked, rng):
        """Kills or stops a worker at a random moment under load; returns it, how and when."""
        asked.await_answer()
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

    def answers(self, cluster):
        return [load.tokens_of(cluster.client, request) for request in self.requests]

    def setUp(self):
        self.prompts = golden.prompts(MODEL)
        self.requests = [load.greedy(prompt, TOKENS) for prompt in self.prompts]

    def test_with_replicas_every_answer_is_that_of_an_undisturbed_run(self):
        rng = random.Random(7)
        with roles.Cluster(FOLDER, expert_workers=3, replicas=2) as cluster:
            expected = self.answers(cluster)
            for prompt, tokens in zip(self.prompts, expected):
                self.assertEqual([id for id, _ in tokens][:32], prompt["greedy_ids"])
            count = 0
            for number in range(self.rounds(6)):
                asked = load.Load(cluster.client, self.requests, expected, QUERIES)
                victim, how, when = self.disturb(cluster, asked, rng)
                asked.await_answers(since=when)
                asked.stop()
                self.assertEqual([q.error.details() for q in asked.errors()], [], f"round {number}: {how.name} of {victim.name}")
                count += len(asked.answers())
                self.revive(cluster, victim)
            print(f"{count} answers, all as undisturbed")

    def test_without_a_replica_those_who_needed_it_are_told_soon(self):
        rng = random.Random(8)
        slowest = 0.0
        with roles.Cluster(FOLDER, expert_workers=8, more_backbone=["--replica-patience=0.3"]) as cluster:
            expected = self.answers(cluster)
            for number in range(self.rounds(3)):
                asked = load.Load(cluster.client, self.requests, expected, QUERIES)
                victim, how, when = self.disturb(cluster, asked, rng)
                asked.await_error()
                asked.stop()
                errors = asked.errors()
                self.assertEqual([q for q in errors if q.ended < when], [], f"round {number}: before the {how.name} of {victim.name}")
                slowest = max(slowest, min(q.ended for q in errors) - when)
                for text in {q.error.details() for q in errors}:
                    self.assertRegex(text, r"step \d+.* of layer \d")
                    self.assertRegex(text, rf"expert worker {victim.name}\b")
                self.assertEqual({q.error.code() for q in errors}, {grpc.StatusCode.UNAVAILABLE})
                self.revive(cluster, victim)
                self.assertEqual(self.answers(cluster), expected)
        print(f"the first error came at most {slowest:.2f} s after the fault")


if __name__ == "__main__":
    unittest.main()
