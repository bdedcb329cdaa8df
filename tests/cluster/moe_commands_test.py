# SPDX-License-Identifier: Apache-2.0
"""Requests that steer a mixture-of-experts model's gates, and what is shown of the gates' choices, with the real commands."""

import concurrent.futures
import json
import os
import tempfile
import unittest

from tests.cluster import ccoe_process, golden

MODEL = "mixtral-8x2"
LAYERS, EXPERTS, TOP_K = 4, 8, 2
POLICY = ["--moe-active-experts", "1:2", "--moe-allow-masks"]


class MoeCommandsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR"))
        cls.prompt = golden.prompts(MODEL)[0]
        cls.requests = f"{cls.folder}/requests.jsonl"
        with open(cls.requests, "w", encoding="utf-8") as file:
            file.write(json.dumps({"id": "a", "token_ids": cls.prompt["ids"]}) + "\n")
        cls.cluster = ccoe_process.Cluster(["--model", f"{golden.MODELS}/{MODEL}", "--processes", "--expert-workers", "2", *POLICY])
        cls.addClassCleanup(cls.cluster.stop)
        cls.cluster.wait_ready()

    def generate(self, *words):
        return ccoe_process.run(["generate", "--requests", self.requests, "--temperature", "0", "--max-tokens", "32", "--ignore-eos",
                                 "--json", *words])

    def ask(self, *words):
        code, out, error = self.generate("--server", self.cluster.grpc, *words)
        self.assertEqual(code, 0, error)
        return json.loads(out)

    def stats(self, *words):
        code, out, error = ccoe_process.run(["moe", "stats", "--server", self.cluster.grpc, *words])
        self.assertEqual(code, 0, error)
        return out

    def counts_of(self, *words):
        """What the gates chose for one answer, layer by layer, and the answer."""
        self.stats("--reset")
        answer = self.ask(*words)
        return json.loads(self.stats("--json"))["layers"], answer

    def test_without_control_every_row_chooses_as_the_model_does(self):
        layers, answer = self.counts_of()
        self.assertEqual(answer["token_ids"], self.prompt["greedy_ids"])
        self.assertNotIn("moe", answer)
        self.assertEqual([layer["layer"] for layer in layers], list(range(LAYERS)))
        for layer in layers:
            self.assertEqual(layer["rows"], len(self.prompt["ids"]) + 31)
            self.assertEqual(sum(layer["tokens"]), TOP_K * layer["rows"])
            self.assertEqual(len(layer["tokens"]), EXPERTS)
            pairs = sum(layer["co_activation"][a][b] for a in range(EXPERTS) for b in range(a))
            self.assertEqual(pairs, layer["rows"])
            self.assertAlmostEqual(layer["balancedness"], sum(layer["tokens"]) / EXPERTS / max(layer["tokens"]))

    def test_the_number_of_active_experts_is_the_requests(self):
        layers, answer = self.counts_of("--active-experts", "1", "--active-experts", "2:2")
        self.assertEqual(answer["moe"], {"active_experts": 1, "layers": [{"layer": 2, "active_experts": 2}]})
        for layer in layers:
            self.assertEqual(sum(layer["tokens"]), layer["rows"] * (2 if layer["layer"] == 2 else 1))
        _, out, error = self.generate("--offline", "--model", f"{golden.MODELS}/{MODEL}", "--active-experts", "1", "--active-experts",
                                      "2:2")
        self.assertEqual(json.loads(out)["token_ids"], answer["token_ids"], error)
        self.assertEqual(self.ask("--active-experts", "2")["token_ids"], self.prompt["greedy_ids"])

    def test_masked_experts_are_not_chosen(self):
        layers, answer = self.counts_of("--mask-expert", "1:0", "--mask-expert", "1:1", "--mask-expert", "5")
        self.assertEqual(answer["moe"], {"masked_experts": [5], "layers": [{"layer": 1, "masked_experts": [0, 1]}]})
        for layer in layers:
            self.assertEqual(layer["tokens"][5], 0)
            self.assertEqual(sum(layer["tokens"]), TOP_K * layer["rows"])
        self.assertEqual(layers[1]["tokens"][:2], [0, 0])

    def test_controlled_and_other_queries_of_one_batch_do_not_touch_each_other(self):
        kinds = [[], ["--active-experts", "1"], ["--mask-expert", "3"], ["--mask-expert", "2:4", "--active-experts", "2:1"]]
        alone = [self.ask(*words)["token_ids"] for words in kinds]
        self.assertEqual(len({str(ids) for ids in alone}), len(kinds))
        with concurrent.futures.ThreadPoolExecutor(12) as crowd:
            together = list(crowd.map(lambda words: self.ask(*words)["token_ids"], kinds * 3))
        self.assertEqual(together, alone * 3)

    def test_forced_experts_are_always_chosen(self):
        # Here, where who asks is the operator: this cluster's does not allow it.
        code, out, error = self.generate("--offline", "--model", f"{golden.MODELS}/{MODEL}", "--force-expert", "3")
        self.assertEqual(code, 0, error)
        self.assertNotEqual(json.loads(out)["token_ids"], self.prompt["greedy_ids"])

    def test_what_the_operator_or_the_model_does_not_allow_is_refused(self):
        for words, said in ((["--force-expert", "0:3"], "does not allow requests to force experts, found expert 3"),
                            (["--active-experts", "3"], "beyond 1..2, found 3"),
                            (["--mask-expert", "2:8"], "layer 2: masked expert: expected one of 0..7, found 8"),
                            (["--mask-expert", "4:0"], "layer 4: expected a layer 0..3")):
            code, _, error = self.generate("--server", self.cluster.grpc, *words)
            self.assertEqual(code, 1, error)
            self.assertIn(said, error)
        code, _, error = self.generate("--server", self.cluster.grpc, "--mask-expert", "first")
        self.assertEqual(code, 2, error)

    def test_the_table_and_the_heat_map_show_all_layers(self):
        self.ask()
        path = f"{self.folder}/heat.svg"
        table = self.stats("--heat-map", path, "--top", "3")
        self.assertEqual(table.count("of the rows"), 3)
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read().count("<title>layer "), LAYERS * EXPERTS)
        one = json.loads(self.stats("--json", "--layer", "2"))
        self.assertEqual([layer["layer"] for layer in one["layers"]], [2])
        code, _, error = ccoe_process.run(["moe", "stats", "--server", self.cluster.grpc, "--layer", "4"])
        self.assertEqual(code, 1)
        self.assertIn("layer 4", error)


if __name__ == "__main__":
    unittest.main()
