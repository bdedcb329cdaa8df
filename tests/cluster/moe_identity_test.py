# SPDX-License-Identifier: Apache-2.0
"""A mixture-of-experts model gives the same bits wherever its FFN experts are: with the backbone, on any number of workers, with
replicas and uneven splits, local or grpc, one or two backbone workers, alone or in a crowd of 32. Compared are token ids and the
log-probabilities of the 20 likeliest tokens, as the f32 values they are."""

import concurrent.futures
import itertools
import os
import tempfile
import unittest

from tests.cluster import ccoe_process, golden
from tests.cluster.identity_test import answer

MODEL = "mixtral-8x2"
OTHERS = ("deepseek-v3", "qwen2moe-shared")

# Layer 0's experts all on one worker, expert 7 everywhere, two of them with the backbone as well.
UNEVEN = """
workers { worker_id: "expert-0" shards { layers: "0-3" experts: "0-5" } shards { layers: "0" experts: "6-7" } }
workers { worker_id: "expert-1" shards { layers: "1-3" experts: "6,7" } }
workers { worker_id: "expert-2" shards { layers: "2,3" experts: "1-3,7" } }
with_backbone { shards { layers: "1" experts: "0-1" } }
"""


def layouts(uneven_file):
    return {
        "all with the backbone": [],
        "1 worker": ["--expert-workers", "1"],
        "2 workers over grpc": ["--expert-workers", "2", "--exchange", "grpc"],
        "3 workers": ["--expert-workers", "3"],
        "5 workers, two copies, over grpc": ["--expert-workers", "5", "--replicas", "2", "--exchange", "grpc"],
        "8 workers": ["--expert-workers", "8"],
        "uneven, by hand": ["--expert-workers", "3", "--placement", uneven_file],
        "2 backbone workers": ["--backbone-workers", "2", "--expert-workers", "3", "--prefill-chunk", "7"],
        "processes": ["--processes", "--backbone-workers", "2", "--expert-workers", "3", "--replicas", "2"],
    }


class MoeIdentityTest(unittest.TestCase):
    def check(self, model, flags, jobs, expected):
        with ccoe_process.Cluster(["--model", f"{golden.MODELS}/{model}", *flags]) as cluster:
            client = ccoe_process.ReflectionClient(cluster.grpc)
            client.learn("ccoe.v1.Inference")
            client.learned = {"ccoe.v1.Inference"}
            if expected is None:  # the first layout: one by one, nothing else runs
                expected = [answer(client, "", prompt) for prompt in jobs]
                for prompt, (ids, _) in zip(jobs, expected):
                    self.assertEqual(ids, prompt["greedy_ids"])
            with concurrent.futures.ThreadPoolExecutor(32) as crowd:
                crowded = list(crowd.map(lambda prompt: answer(client, "", prompt),
                                         itertools.islice(itertools.cycle(jobs), 32)))
            for got, wanted in zip(crowded, itertools.cycle(expected)):
                self.assertEqual(got, wanted)
        return expected

    def test_every_placement_gives_the_same_bits(self):
        jobs = golden.prompts(MODEL)
        expected = None
        with tempfile.NamedTemporaryFile("w", suffix=".textproto", dir=os.environ.get("TEST_TMPDIR")) as uneven:
            uneven.write(UNEVEN)
            uneven.flush()
            for name, flags in layouts(uneven.name).items():
                with self.subTest(name):
                    expected = self.check(MODEL, flags, jobs, expected)

    def test_other_routing_forms_too(self):
        for model in OTHERS:
            expected = None
            for flags in ([], ["--expert-workers", "3", "--exchange", "grpc"]):
                with self.subTest(model=model, flags=flags):
                    expected = self.check(model, flags, golden.prompts(model), expected)


if __name__ == "__main__":
    unittest.main()
