# SPDX-License-Identifier: Apache-2.0
"""A client that knows nothing but the address: health, reflection, then a streamed answer by what reflection told."""

import unittest

import grpc

from tests.cluster import ccoe_process, golden

INFERENCE = "ccoe.v1.Inference"


class ReflectionTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = ccoe_process.Cluster(golden.up_flags())
        cls.addClassCleanup(cls.cluster.stop)
        cls.cluster.wait_ready()
        cls.client = ccoe_process.ReflectionClient(cls.cluster.grpc)

    @classmethod
    def tearDownClass(cls):
        assert cls.cluster.stop() == 0, cls.cluster.output()

    def test_health_answers_for_the_server_and_its_services(self):
        for service in ("", INFERENCE, "readiness", "liveness"):
            self.assertEqual(self.client.check_health(service), 1, service)
        with self.assertRaises(grpc.RpcError) as caught:
            self.client.check_health("no.such.Service")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_reflection_is_enough_to_generate(self):
        services = self.client.list_services()
        self.assertIn(INFERENCE, services)
        self.assertIn("grpc.health.v1.Health", services)
        prompt = golden.prompts("ccoe/math")[0]
        events = self.client.call(INFERENCE, "Generate", {
            "token_ids": {"ids": prompt["ids"]}, "expert": "math",
            "sampling": {"temperature": 0, "max_tokens": 32, "ignore_eos": True}})
        ids = [token.id for event in events for token in event.delta.tokens]
        self.assertEqual(ids, prompt["greedy_ids"])
        self.assertEqual(events[0].WhichOneof("event"), "started")
        finished = events[-1].finished
        self.assertEqual(finished.decision.expert.name, "math")
        self.assertEqual(finished.decision.expert.version, 1)
        self.assertEqual(finished.usage.generated_tokens, 32)
        self.assertTrue(finished.decision.explanation)

    def test_bad_requests_are_told_what_is_wrong_and_the_server_lives_on(self):
        cases = [
            ({"text": "hi", "expert": "nobody"}, grpc.StatusCode.NOT_FOUND, "nobody"),
            ({"text": "hi", "expert": "a b"}, grpc.StatusCode.INVALID_ARGUMENT, "a b"),
            ({"text": "hi", "sampling": {"top_p": 7.0}}, grpc.StatusCode.INVALID_ARGUMENT, "top_p"),
            ({"text": "hi", "sampling": {"max_tokens": 0}}, grpc.StatusCode.INVALID_ARGUMENT, "max_tokens"),
            ({"text": "x" * 100000}, grpc.StatusCode.INVALID_ARGUMENT, ""),
            ({"token_ids": {"ids": [99999]}}, grpc.StatusCode.INVALID_ARGUMENT, "99999"),
            ({}, grpc.StatusCode.INVALID_ARGUMENT, ""),
        ]
        for request, code, words in cases:
            with self.assertRaises(grpc.RpcError) as caught:
                self.client.call(INFERENCE, "Generate", request)
            self.assertEqual(caught.exception.code(), code, (request, caught.exception.details()))
            self.assertIn(words, caught.exception.details())
        self.assertEqual(self.client.check_health(), 1)

    def test_metrics_and_healthz_are_served(self):
        status, metrics = self.cluster.get("/metrics")
        self.assertEqual(status, 200)
        for name in ("ccoe_gateway_requests_total", "ccoe_gateway_first_token_seconds", "ccoe_gateway_inter_token_seconds"):
            self.assertTrue(name in metrics, name)
        self.assertEqual(self.cluster.get("/healthz")[0], 200)


if __name__ == "__main__":
    unittest.main()
