# SPDX-License-Identifier: Apache-2.0
"""Each role of a cluster is killed or stopped under load: what docs/serving.md ("When a worker dies") says of the queries under way and of
new ones is what happens, and the cluster serves on once the role is back."""

import signal
import time
import unittest

import grpc

from tests.cluster import golden, load, roles

CLIENTS = 8
TOKENS = 64


class RoleFaultsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        held = [f"{golden.bundles()}/{name}" for name in golden.EXPERTS]
        cls.cluster = roles.Cluster(f"{golden.MODELS}/ccoe/backbone", bundles=[held, held], backbone_workers=2)
        cls.addClassCleanup(cls.cluster.stop)
        cls.cluster.connect()
        cls.cluster.await_workers()
        cls.requests = [load.greedy(golden.prompts(f"ccoe/{name}")[0], TOKENS, expert=name) for name in golden.EXPERTS]
        cls.expected = [load.tokens_of(cls.cluster.client, request) for request in cls.requests]

    def setUp(self):
        for role in self.cluster.roles.values():  # that a test before left dead or stopped, as it failed
            if role.process.poll() is None:
                role.signal(signal.SIGCONT)
            else:
                role.start()
        self.cluster.await_workers()
        self.load = load.Load(self.cluster.client, self.requests, self.expected, CLIENTS)
        self.addCleanup(self.load.stop)

    def signal(self, role, number):
        """Sends it while at least one question is under way; when that was."""
        when = self.load.await_under_way()
        self.cluster.roles[role].signal(number)
        return when

    def come_back(self, role):
        """The role starts anew, and everyone is answered again; when it started."""
        self.cluster.roles[role].kill()
        started = time.monotonic()
        self.cluster.roles[role].start()
        self.cluster.await_workers()
        self.load.await_answers(since=time.monotonic())
        self.load.stop()
        return started

    def assert_unavailable(self, questions):
        self.assertEqual({q.error.code() for q in questions} - {grpc.StatusCode.UNAVAILABLE}, set(), [q.error.details() for q in questions])

    def test_the_goldens_are_asked_for(self):
        for name, tokens in zip(golden.EXPERTS, self.expected):
            self.assertEqual([id for id, _ in tokens][:32], golden.prompts(f"ccoe/{name}")[0]["greedy_ids"])

    def test_an_expert_worker_that_hangs_is_a_pause(self):
        self.signal("expert-0", signal.SIGSTOP)
        self.load.await_answers(since=time.monotonic())
        self.come_back("expert-0")
        self.assertEqual([q.error.details() for q in self.load.errors()], [])

    def test_an_expert_worker_that_is_killed_is_a_pause(self):
        self.signal("expert-1", signal.SIGKILL)
        self.load.await_answers(since=time.monotonic())
        self.come_back("expert-1")
        self.assertEqual([q.error.details() for q in self.load.errors()], [])

    def test_without_the_router_what_is_under_way_goes_on(self):
        when = self.signal("router", signal.SIGKILL)
        self.load.await_error()
        started = self.come_back("router")
        under_way = [q for q in self.load.snapshot() if q.under_way(when)]
        self.assertTrue(under_way)
        self.assertEqual([q.error.details() for q in under_way if q.error], [])
        # A router that has just started knows no expert before a worker has registered.
        self.assert_unavailable([q for q in self.load.errors() if q.ended < started or q.error.code() != grpc.StatusCode.NOT_FOUND])

    def test_without_the_gateway_all_ends_and_nothing_is_left_running(self):
        when = self.signal("gateway", signal.SIGKILL)
        self.load.await_error()
        self.come_back("gateway")
        self.assert_unavailable(self.load.errors())
        self.assertTrue([q for q in self.load.errors() if q.began < when])
        self.cluster.await_status("nothing runs at a backbone worker", lambda status: all(
            worker.load.running + worker.load.waiting == 0 for worker in status.workers))

    def test_a_backbone_worker_takes_only_answers_that_have_begun_with_it(self):
        self.signal("backbone-0", signal.SIGKILL)
        self.load.await_answers(since=time.monotonic())
        self.come_back("backbone-0")
        self.assert_unavailable(self.load.errors())
        self.assertEqual([q.error.details() for q in self.load.errors() if q.first is None], [])


if __name__ == "__main__":
    unittest.main()
