# SPDX-License-Identifier: Apache-2.0
"""Checks that every field and enum value of the wire contracts says what it means.

    python3 tools/check_protos.py

Fails with FILE:LINE of each field or enum value of proto/ccoe/v1 that has no comment: on the line above it, on its own line, or above the run of
fields directly before it, which a blank line, a comment or anything else than a field ends. A comment without a word is none, and neither is one
that speaks to clang-format. Comments are those that begin with //.

Whether a comment is true, and says unit, default and range (proto/README.md), only a reader can tell."""

import re
import subprocess
import sys

FOLDER = "proto/ccoe/v1"
COMMENT_OR_STRING = re.compile(r'//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'')
FIELD = re.compile(r"(?:(?:optional|repeated|required)\s+)?(?!option\b|reserved\b|extensions\b)(?:map\s*<[^>]*>|[\w.]+)\s+(\w+)\s*=\s*\d+\s*[;\[]")
VALUE = re.compile(r"(?!option\b|reserved\b)(\w+)\s*=\s*-?(?:\d+|0[xX][0-9a-fA-F]+)\s*[;\[]")


def sources():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", FOLDER + "/*.proto"], capture_output=True, text=True, check=True)
    return listed.stdout.split()


def speaks(comment):
    return re.search(r"\w", comment) is not None and not comment.lstrip().startswith("clang-format ")


def uncommented(text):
    """(fields and enum values in all, [(line, name) of those without a comment])."""
    count, found = 0, []
    covered = False  # what stands here shares the comment above
    statement, start, own = "", 0, False
    text = COMMENT_OR_STRING.sub(lambda match: match.group(0) if match.group(0).startswith("//") else '""', text)
    for number, line in enumerate(text.split("\n"), 1):
        code, _, comment = line.partition("//")
        code = code.strip()
        if not code and not statement:
            covered = speaks(comment) or (covered and comment.lstrip().startswith("clang-format "))
            continue
        start = start if statement else number
        statement += " " + code
        own = own or speaks(comment)
        if not code.endswith((";", "{", "}")):
            continue
        match = FIELD.match(statement.strip()) or VALUE.match(statement.strip())
        if match is None:
            covered = False
        else:
            count += 1
            if not covered and not own:
                found.append((start, match.group(1)))
        statement, own = "", False
    return count, found


def main():
    names = sources()
    fields = wrong = 0
    for name in names:
        with open(name, encoding="utf-8") as file:
            count, found = uncommented(file.read())
        fields += count
        wrong += len(found)
        for line, field in found:
            print(f"{name}:{line}: {field} has no comment")
    print(f"{len(names)} protos, {fields} fields and enum values, {wrong} without a comment")
    if fields == 0:
        print(f"  expected protos with fields in {FOLDER}, found none")
    return 1 if wrong or fields == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
