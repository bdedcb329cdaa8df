# SPDX-License-Identifier: Apache-2.0
"""Checks how the folders of the C++ tree depend on one another, and prints the shape of the tree.

    python3 tools/check_structure.py [--units]

Fails where folders include each other in a circle, or where a dependency points against the house's direction:
services -> runtime -> kernels, which sees runtime/base alone. The measures that follow fail nothing; --units lists what they are made of.

A unit is a header with the source of the same name, which a reader opens together. Lines of code are lines with more than comment or space on them.
A type is a class, struct, union or enum with a body, nested ones too. A function is one with a body; its lines are those from the signature's first to
the closing brace. Kernels, tests and generated code are not measured, but for functions: those of kernels count too."""

import argparse
import os
import re
import subprocess
import sys

INCLUDE = re.compile(r'^#include "((?:kernels|runtime|services|tools)/[^"]+)"', re.M)
NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)
TYPE = re.compile(r"^\s*(?:template\s*<[^;{]*>\s*)?(?:class|struct|union|enum(?:\s+class)?)\s+(?:ABSL_\w+\s+|\[\[\w+\]\]\s+)*[A-Za-z_][\w:]*"
                  r"\s*(?:final\s*)?(?::[^;{]*)?\{", re.M)
MAY_SEE = {"kernels": ("kernels", "runtime/base"), "runtime": ("runtime", "kernels"), "services": ("services", "runtime", "kernels")}


def sources():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.h", "*.cc", "*.cu", "*.cuh"], capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split() if not name.startswith("tests/") and os.path.exists(name)]


def read(name):
    with open(name, encoding="utf-8") as file:
        return file.read()


def code_of(text):
    """The text without comments and with empty strings; a digit separator is no quote."""
    text = re.sub(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])", "", text)
    return NOT_CODE.sub(lambda match: "" if match.group(0).startswith(("//", "/*")) else '""', text)


def circles(edges):
    """Groups of folders of which each reaches each (Tarjan's strongly connected components)."""
    order, low, stack, found = {}, {}, [], []

    def visit(folder):
        order[folder] = low[folder] = len(order)
        stack.append(folder)
        for seen in sorted(edges.get(folder, ())):
            if seen not in order:
                visit(seen)
                low[folder] = min(low[folder], low[seen])
            elif seen in stack:
                low[folder] = min(low[folder], order[seen])
        if low[folder] == order[folder]:
            at = stack.index(folder)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for folder in sorted(edges):
        if folder not in order:
            visit(folder)
    return found


def dependencies(names):
    """(folder -> folders it includes, wrong includes)."""
    edges, wrong = {}, []
    for name in names:
        folder = os.path.dirname(name)
        for included in INCLUDE.findall(read(name)):
            other = os.path.dirname(included)
            if included == name:
                wrong.append(f"{name} includes itself")
            if other == folder:
                continue
            edges.setdefault(folder, set()).add(other)
            allowed = MAY_SEE.get(folder.split("/")[0])
            if allowed and not other.startswith(allowed):
                wrong.append(f"{name} includes {included}: {folder.split('/')[0]} may see {', '.join(allowed)}")
    return edges, wrong


NO_FUNCTION = re.compile(r"^(?:if|for|while|switch|catch|do|else|namespace|class|struct|union|enum|return|case|default|extern|try|co_return)\b|"
                         r"=\s*$|\]\s*(?:\([^{]*)?$|\breturn\b|=.*\[[^\]]*\]\s*\(")


def prelude(code, brace):
    """What stands before an opening brace since the last statement or block: a function's signature, where it opens one."""
    at, depth = brace - 1, 0
    while at >= 0 and (depth > 0 or code[at] not in ";{}"):
        depth += {")": 1, "(": -1}.get(code[at], 0)
        if depth < 0:  # within a call's or a signature's parentheses: a lambda or an initial value
            return at, ""
        at -= 1
        if at > 0 and depth == 0 and code[at] == "}":  # of a member's initial value: `: table_{size} {`
            opened = code.rfind("{", 0, at)
            if opened > 0 and re.match(r"[\w>]", code[opened - 1]):
                at = opened - 1
    return at + 1, code[at + 1:brace]


def parameters_of(signature):
    """How many parameters the first parentheses at the top level hold."""
    depth, count, words = 0, 0, ""
    for letter in signature[signature.index("("):]:
        depth += {"(": 1, "<": 1, "[": 1, "{": 1, ")": -1, ">": -1, "]": -1, "}": -1}.get(letter, 0)
        if depth == 0:
            return count + bool(words.strip())
        if letter == "," and depth == 1:
            count, words = count + 1, ""
        elif not (letter == "(" and depth == 1):
            words += letter
    return count


def functions(name):
    """(place, lines, parameters) of each function that the file defines."""
    code = code_of(read(name)).replace("->", "  ")
    code = re.sub(r"^#[^\n]*(?:\\\n[^\n]*)*", lambda match: "\n" * match.group(0).count("\n"), code, flags=re.M)
    found = []
    for match in re.finditer(r"[ \n]\{", code):
        brace = match.end() - 1
        start, signature = prelude(code, brace)
        words = re.sub(r"^(?:\s|public:|private:|protected:|template\s*<[^{;]*?>\s(?=\w))+", "", signature)
        if not re.search(r"\w\s*\(", words) or NO_FUNCTION.search(words):
            continue
        end, depth = brace, 0
        while True:
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            if depth == 0:
                break
            end += 1
        first = start + len(signature) - len(words)
        lines = code.count("\n", first, end) + 1
        found.append((f"{name}:{code.count(chr(10), 0, first) + 1}", lines, parameters_of(words)))
    return found


def measure(names):
    """unit -> (lines of code, types)."""
    units = {}
    for name in names:
        if name.startswith("kernels/"):
            continue
        code = code_of(read(name))
        lines, types = units.get(os.path.splitext(name)[0], (0, 0))
        lines += sum(1 for line in code.split("\n") if line.strip())
        units[os.path.splitext(name)[0]] = (lines, types + len(TYPE.findall(code)))
    return units


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--units", action="store_true", help="list every unit with its lines of code and types")
    arguments = parser.parse_args()
    names = sources()
    edges, wrong = dependencies(names)
    found = circles(edges)
    units = measure(names)
    lines = sum(count for count, _ in units.values())
    types = sum(count for _, count in units.values())
    small = sum(count <= 25 for count, _ in units.values())
    if arguments.units:
        for unit, (count, held) in sorted(units.items(), key=lambda item: item[1]):
            print(f"{count:6} lines {held:4} types  {unit}")
    print(f"{len(units)} units, {lines} lines of code, {types} types ({1000 * types / lines:.1f} a thousand lines), {small} units "
          f"({100 * small / len(units):.0f} %) of 25 lines or fewer, {sum(count > 400 for count, _ in units.values())} over 400")
    bodies = [function for name in names for function in functions(name)]
    long = [function for function in bodies if function[1] > 40]
    wide = [function for function in bodies if function[2] > 6]
    short = 100 * (1 - len(long) / max(len(bodies), 1))
    print(f"{len(bodies)} functions: {short:.1f} % of 40 lines or fewer, {len(wide)} with over 6 parameters")
    if arguments.units:
        for place, length, count in long + wide:
            print(f"{length:6} lines {count:4} parameters  {place}")
    print(f"folder circles: {len(found)}")
    for circle in found:
        print("  include each other: " + ", ".join(circle))
    for line in wrong:
        print("  against the direction: " + line)
    return 1 if found or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
