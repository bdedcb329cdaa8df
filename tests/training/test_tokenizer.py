# SPDX-License-Identifier: Apache-2.0
"""The tokenizer: lossless, one token a digit, and equal to its own file."""

import json
import os
import re
import tempfile
import unittest

import support
from training import tokenizer

TEXTS = ("The tenant's roof, 30 days notice.", "def f(x): return x * 12",
         "SELECT name FROM pets WHERE age > 5", "a  b\n c\t d ", "")
BASE = os.path.join(support.ROOT, "models", "demo", "base")


class Small(unittest.TestCase):
    def setUp(self):
        self.words = tokenizer.Tokenizer(tokenizer.train(TEXTS * 3, 300))

    def test_pieces_lose_nothing(self):
        for text in TEXTS:
            joined = "".join(tokenizer.ASCII_PATTERN.findall(text))
            self.assertEqual(joined, text)
            self.assertEqual(self.words.decode(self.words.encode(text)), text)

    def test_pieces_are_those_of_the_pattern(self):
        self.assertEqual(tokenizer.ASCII_PATTERN.findall("it's (x) 12  y\n"),
                         ["it", "'s", " (", "x", ")", " ", "1", "2", " ", " y", "\n"])

    def test_a_digit_is_a_token(self):
        tokens = self.words.encode("1234567890" * 3)
        self.assertEqual(len(tokens), 30)

    def test_prompt_is_the_rendered_template(self):
        names = {i: name for name, i in self.words.specials.items()}
        text = "".join(names.get(i) or self.words.decode([i])
                       for i in self.words.prompt("What is 2 + 2?"))
        self.assertEqual(text, "<|user|>What is 2 + 2?<|end|><|assistant|>")

    def test_saved_and_loaded_is_the_same(self):
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save(self.words, folder, 64)
            again = tokenizer.Tokenizer.load(folder)
            with open(f"{folder}/tokenizer_config.json", encoding="utf-8") as file:
                self.assertEqual(json.load(file)["eos_token"], "<|end|>")
        self.assertEqual(again.vocab, self.words.vocab)
        self.assertEqual(again.encode(TEXTS[0]), self.words.encode(TEXTS[0]))

    def test_training_is_deterministic(self):
        self.assertEqual(tokenizer.train(TEXTS, 290), tokenizer.train(TEXTS, 290))


@unittest.skipUnless(os.path.exists(f"{BASE}/tokenizer.json"), "no demo model")
class Published(unittest.TestCase):
    def test_file_and_config_agree(self):
        with open(f"{BASE}/tokenizer.json", encoding="utf-8") as file:
            stored = json.load(file)
        with open(f"{BASE}/config.json", encoding="utf-8") as file:
            config = json.load(file)
        words = tokenizer.Tokenizer.load(BASE)
        self.assertEqual(json.loads(json.dumps(tokenizer.tokenizer_json(words))),
                         stored)
        self.assertEqual(config["vocab_size"], words.size)
        self.assertEqual(config["eos_token_id"], words.end)
        self.assertTrue(re.search(r"\\p\{N\}\|", str(stored["pre_tokenizer"])))


if __name__ == "__main__":
    unittest.main()
