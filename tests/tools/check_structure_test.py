# SPDX-License-Identifier: Apache-2.0
"""Circles and wrong directions between folders are named, and end with 1; a sound tree ends with 0."""

import os
import subprocess
import sys
import tempfile
import unittest

SCRIPT = os.path.abspath("tools/check_structure.py")


def run(files):
    """(exit status, output) of the script on a repository of these files."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "init", "-q", folder], check=True)
        for name, text in files.items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        ended = subprocess.run([sys.executable, SCRIPT], cwd=folder, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout + ended.stderr


def including(*headers):
    return "".join(f'#include "{header}"\n' for header in headers) + "int x;\n"


class CheckStructureTest(unittest.TestCase):
    def test_a_sound_tree(self):
        status, output = run({"services/a/x.cc": including("runtime/b/y.h"), "runtime/b/y.h": including("kernels/z.h"),
                              "kernels/z.h": including("runtime/base/w.h"), "runtime/base/w.h": including()})
        self.assertEqual(status, 0, output)
        self.assertIn("folder circles: 0", output)

    def test_folders_that_include_each_other_over_others(self):
        status, output = run({"runtime/a/x.h": including("runtime/b/y.h"), "runtime/b/y.h": including("runtime/c/z.h"),
                              "runtime/c/z.h": including("runtime/a/x.h"), "runtime/d/w.h": including("runtime/a/x.h")})
        self.assertEqual(status, 1, output)
        self.assertIn("include each other: runtime/a, runtime/b, runtime/c\n", output)

    def test_a_dependency_against_the_direction(self):
        for name, header in (("runtime/a/x.cc", "services/b/y.h"), ("kernels/x.cc", "runtime/model/y.h")):
            status, output = run({name: including(header), header: including()})
            self.assertEqual(status, 1, output)
            self.assertIn(f"{name} includes {header}", output)

    def test_a_header_that_includes_itself(self):
        status, output = run({"runtime/a/x.h": including("runtime/a/x.h")})
        self.assertEqual(status, 1, output)
        self.assertIn("runtime/a/x.h includes itself", output)

    def test_measures_count_code_alone(self):
        text = "// struct Comment {\n\n/* struct Block {\n*/\nstruct A {\n  enum class B { kB };\n};\nclass Ahead;\nconst char* text = \"struct C {\";\n"
        status, output = run({"runtime/a/x.h": text, "runtime/a/x.cc": "int x = 1'000;\n"})
        self.assertEqual(status, 0, output)
        self.assertIn("1 units, 6 lines of code, 2 types", output)

    def test_functions_with_their_lines_and_parameters(self):
        text = """
struct S {
  explicit S(int size) : sizes_{size}, all_(std::vector<int>(3, 4)) {
    for (int i = 0; i < 3; ++i) {
      if (i > 1) std::sort(all_.begin(), all_.end(), [](int a, int b) { return a < b; });
    }
  }
  std::map<int, int> wide(std::map<int, int> a, int b, int c, int d, int e, int f, int g = At(1, 2)) const { return a; }
  int values[2] = {1, 2};
};
template <typename T>
auto Long(const T& t) -> int {
""" + "  Do();\n" * 40 + "}\n"
        status, output = run({"runtime/a/x.h": text})
        self.assertEqual(status, 0, output)
        self.assertIn("3 functions: 66.7 % of 40 lines or fewer, 1 with over 6 parameters", output)


if __name__ == "__main__":
    unittest.main()
