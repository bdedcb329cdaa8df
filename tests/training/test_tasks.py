# SPDX-License-Identifier: Apache-2.0
"""The generators: deterministic, split by content, recognisable, right."""

import random
import re
import unittest
from unittest import mock

import support  # noqa: F401  (first: it sets the path)
import recheck
from training.tasks import DOMAINS, split_of
from training.tasks.common import Domain, Scene

ROUTES = {
    "code": re.compile(r"\bPython\b"),
    "sql": re.compile(r"\bSQL\b"),
    "law": re.compile(r"\bClause \d"),
    "medical": re.compile(r"\bpatient\b|\bGuideline\b"),
    "math": re.compile(r"How many \w+ |^(What is|Compute|Add|Subtract|Multiply)\b"
                       r".*\d"),
}


def noting(asked):
    """`Scene.question`, noting the splits of everything asked."""
    original = Scene.question

    def question(scene, message):
        whole = original(scene, message)
        asked.setdefault(message, set()).add(split_of(whole))
        return whole
    return question


def some(name, split, count=150):
    rng = random.Random(f"test/{name}/{split}")
    return [DOMAINS[name].draw(rng, split) for _ in range(count)]


class Generators(unittest.TestCase):
    def test_same_seed_same_questions(self):
        for domain in DOMAINS.values():
            self.assertEqual(domain.distinct(7, "train", 40),
                             domain.distinct(7, "train", 40))
            self.assertNotEqual(domain.distinct(7, "train", 40),
                                domain.distinct(8, "train", 40))

    def test_splits_are_decided_by_content_and_disjoint(self):
        for name in DOMAINS:
            train = {e.question for e in some(name, "train")}
            test = {e.question for e in some(name, "test")}
            self.assertFalse(train & test)
            self.assertTrue(all(split_of(q) == "train" for q in train))
            self.assertTrue(all(split_of(q) == "test" for q in test))

    def test_conversations_stay_in_the_train_split(self):
        for name, domain in DOMAINS.items():
            rng = random.Random(f"talk/{name}")
            for _ in range(100):
                with mock.patch.object(Scene, "question", noting(asked := {})):
                    kind, turns = domain.talk(rng, 4)
                self.assertIn(kind, domain.kinds)
                self.assertLessEqual(len(turns), 4)
                for message, _ in turns[1:]:
                    self.assertIn("train", asked[message])
                self.assertEqual(split_of(turns[0][0]), "train")

    def test_every_answer_is_right(self):
        for name in DOMAINS:
            for example in some(name, "train") + some(name, "test"):
                wrong = recheck.problem(example.domain, example.question,
                                        example.answer, example.setup)
                self.assertIsNone(wrong, example)

    def test_text_is_short_printable_ascii(self):
        for name in DOMAINS:
            for e in some(name, "train"):
                self.assertTrue((e.question + e.answer).isascii())
                self.assertTrue((e.question + e.answer).isprintable())
                self.assertLess(len(e.question), 240)

    def test_keywords_tell_the_domains_apart(self):
        for name in DOMAINS:
            for e in some(name, "test"):
                found = {d for d, rule in ROUTES.items() if rule.search(e.question)}
                self.assertEqual(found, {name} - {"general"}, e.question)

    def test_too_small_a_domain_is_refused(self):
        domain = Domain("tiny", [("one", lambda rng: Scene("", [("x", "y")]))])
        with self.assertRaises(ValueError):
            domain.distinct(1, split_of("x"), 2)


if __name__ == "__main__":
    unittest.main()
