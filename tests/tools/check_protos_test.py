# SPDX-License-Identifier: Apache-2.0
"""Fields and enum values without a comment are named with file and line, and end with 1; commented ones end with 0."""

import os
import subprocess
import sys
import tempfile
import unittest

SCRIPT = os.path.abspath("tools/check_protos.py")
NAME = "proto/ccoe/v1/x.proto"


def run(text, name=NAME):
    """(exit status, output) of the script on a repository of one file."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "init", "-q", folder], check=True)
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        ended = subprocess.run([sys.executable, SCRIPT], cwd=folder, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout + ended.stderr


def lines(*texts):
    return "\n".join(texts) + "\n"


class CheckProtosTest(unittest.TestCase):
    def check_names(self, text, *expected):
        status, output = run(text)
        named = [line for line in output.splitlines() if line.endswith(" has no comment")]
        self.assertEqual(named, [f"{NAME}:{place} has no comment" for place in expected], output)
        self.assertEqual(status, 1 if expected else 0, output)

    def test_comments_above_on_the_line_and_above_a_run(self):
        self.check_names(lines('syntax = "proto3";', "message A {", "  // Above,", "  // over two lines.", "  int32 a = 1;", "  optional B b = 2;",
                               "  map<string, int32> c = 3;", "", "  repeated x.B d = 4;  // On its line.", "}",
                               "enum E {", "  // Not a choice.", "  E_UNSPECIFIED = 0;", "  E_LESS = -1;", "}"))

    def test_no_comment(self):
        self.check_names(lines("// Of the message.", "message A {", "  int32 a = 1;", "  repeated string b = 2;", "}",
                               "// Of the enum.", "enum E {", "  E_UNSPECIFIED = 0;", "}"), "3: a", "4: b", "8: E_UNSPECIFIED")

    def test_what_ends_a_run(self):
        self.check_names(lines("message A {", "  // A.", "  int32 a = 1;", "", "  int32 b = 2;", "  // C.", "  int32 c = 3;", "  reserved 4;", "  int32 d = 5;",
                               "  int32 e = 6;  // E.", "  int32 f = 7;", "  // Detached.", "", "  int32 g = 8;", "}"), "5: b", "9: d", "11: f", "14: g")

    def test_a_comment_above_a_block_is_the_blocks(self):
        self.check_names(lines("message A {", "  // How.", "  oneof how {", "    int32 a = 1;", "    // B.", "    int32 b = 2;", "  }", "  int32 c = 3;", "}"),
                         "4: a", "8: c")

    def test_comments_that_say_nothing(self):
        self.check_names(lines("message A {", "  // ----", "  int32 a = 1;", "  // clang-format off", "  int32 b = 2;", "",
                               "  // C.", "  // clang-format on", "  int32 c = 3;", "}"), "3: a", "5: b")

    def test_statements_over_lines_and_what_is_no_field(self):
        self.check_names(lines('option go_package = "a//b";', "message A {", "  option deprecated = true;", '  reserved "old";', "  int32 a =", "      1 [",
                               "        deprecated = true", "      ];", '  string b = 2 [json_name = "// no comment"];', "}",
                               "// The peer's.", "service S {", "  rpc Do(A) returns (stream A);", "}"), "5: a", "9: b")

    def test_words_in_comments_are_no_strings(self):
        self.check_names(lines("message A {", "  // The worker's.", "  int32 a = 1;", "", "  int32 b = 2;", "  // It doesn't.", "  int32 c = 3;", "}"), "5: b")

    def test_no_protos_are_no_success(self):
        status, output = run(lines("message A {", "  // A.", "  int32 a = 1;", "}"), "proto/elsewhere/x.proto")
        self.assertEqual(status, 1, output)
        self.assertIn("expected protos with fields in proto/ccoe/v1, found none", output)

    def test_counts(self):
        status, output = run(lines("message A {", "  // A.", "  int32 a = 1;", "}"))
        self.assertEqual((status, output), (0, "1 protos, 1 fields and enum values, 0 without a comment\n"))


if __name__ == "__main__":
    unittest.main()
