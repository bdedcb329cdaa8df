# SPDX-License-Identifier: Apache-2.0
"""The same bits from every layout: one process or many, any number of expert workers, local or grpc exchange, alone or in a crowd,
any prefill chunk. Compared are token ids and the log-probabilities of the 20 likeliest tokens, as the f32 values they are."""

import concurrent.futures
import unittest

from tests.cluster import ccoe_process, golden

LAYOUTS = {
    "one process": ["--expert-workers", "1"],
    "two expert workers": ["--expert-workers", "2"],
    "five expert workers over grpc": ["--expert-workers", "5", "--exchange", "grpc"],
    "small chunks": ["--expert-workers", "1", "--prefill-chunk", "3"],
    "processes": ["--processes", "--expert-workers", "2"],
}


def answer(client, expert, prompt):
    """(ids, log-probabilities) of a greedy answer of 32 tokens."""
    events = client.call("ccoe.v1.Inference", "Generate", {
        "token_ids": {"ids": prompt["ids"]}, "expert": expert,
        "sampling": {"temperature": 0, "max_tokens": 32, "ignore_eos": True, "logprobs": 20}})
    tokens = [token for event in events for token in event.delta.tokens]
    return [t.id for t in tokens], [(t.logprob, [(b.token_id, b.logprob) for b in t.best]) for t in tokens]


def jobs():
    """32 queries: all experts and the base, over the golden prompts."""
    wanted = [(name, prompt) for name in golden.EXPERTS for prompt in golden.prompts(f"ccoe/{name}")]
    wanted += [("base", prompt) for prompt in golden.prompts("ccoe/backbone")]
    return wanted[:32]


class IdentityTest(unittest.TestCase):
    def test_every_layout_gives_the_same_bits(self):
        expected = None
        for name, flags in LAYOUTS.items():
            with self.subTest(name), ccoe_process.Cluster(golden.up_flags(*flags)) as cluster:
                client = ccoe_process.ReflectionClient(cluster.grpc)
                client.learn("ccoe.v1.Inference")
                client.learned = {"ccoe.v1.Inference"}
                if expected is None:  # the first layout: one by one, nothing else runs
                    expected = [answer(client, *job) for job in jobs()]
                    for (_, prompt), (ids, _) in zip(jobs(), expected):
                        self.assertEqual(ids, prompt["greedy_ids"])
                with concurrent.futures.ThreadPoolExecutor(32) as crowd:
                    together = list(crowd.map(lambda job: answer(client, *job), jobs()))
                self.assertEqual(together, expected)


if __name__ == "__main__":
    unittest.main()
