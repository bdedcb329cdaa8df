# SPDX-License-Identifier: Apache-2.0
"""The published question files: enough, held out, unique and right."""

import os
import unittest

import support
import recheck
from training import questions
from training.tasks import DOMAINS, split_of

FOLDER = os.path.join(support.ROOT, "models", "demo", "eval")
LEAST = 500


class EvalFiles(unittest.TestCase):
    def lines(self, domain):
        return questions.read(os.path.join(FOLDER, f"{domain}.jsonl"))

    def test_enough_unique_held_out_questions(self):
        for domain in DOMAINS:
            lines = self.lines(domain)
            asked = {line["question"] for line in lines}
            self.assertGreaterEqual(len(asked), LEAST)
            self.assertEqual(len(asked), len(lines))
            self.assertEqual(len({line["id"] for line in lines}), len(lines))
            self.assertTrue(all(split_of(q) == "test" for q in asked))

    def test_every_answer_is_right_and_accepted(self):
        for domain in DOMAINS:
            for line in self.lines(domain):
                self.assertEqual(line["domain"], domain)
                wrong = recheck.problem(domain, line["question"], line["answer"],
                                        line.get("setup", ""))
                self.assertIsNone(wrong)
                self.assertTrue(questions.right(line, f" {line['answer']}\n"))
                self.assertFalse(questions.right(line, "no such answer"))

    def test_files_are_what_the_generators_make(self):
        for domain in DOMAINS:
            lines = self.lines(domain)
            self.assertEqual(questions.held_out(domain, len(lines)), lines)


class Checks(unittest.TestCase):
    SETUP = ("CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (2), (1), (3);")

    def sql(self, answer, given):
        return questions.right(dict(check="sql", setup=self.SETUP, answer=answer),
                               given)

    def test_rows_count_not_the_text(self):
        self.assertTrue(self.sql("SELECT a FROM t", "select a from t order by a"))
        self.assertFalse(self.sql("SELECT a FROM t", "SELECT a FROM t WHERE a > 1"))

    def test_order_counts_when_the_reference_orders(self):
        wanted = "SELECT a FROM t ORDER BY a"
        self.assertTrue(self.sql(wanted, "SELECT a FROM t ORDER BY a ASC"))
        self.assertFalse(self.sql(wanted, "SELECT a FROM t ORDER BY a DESC"))

    def test_a_broken_query_is_wrong(self):
        self.assertFalse(self.sql("SELECT a FROM t", "The answer is a."))


if __name__ == "__main__":
    unittest.main()
