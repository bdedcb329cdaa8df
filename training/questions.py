# SPDX-License-Identifier: Apache-2.0
"""The held-out question files: `eval/<domain>.jsonl`; no PyTorch needed."""

import json
import os
import sqlite3

from .tasks import DOMAINS
from .tasks.sql import run as run_sql


def line_of(example, number):
    """One line of an evaluation file."""
    line = dict(id=f"{example.domain}-{number:04d}", domain=example.domain,
                question=example.question, answer=example.answer,
                check=example.check)
    if example.check == "sql":
        line["setup"] = example.setup
    return line


def held_out(domain, count):
    """The lines of one domain's evaluation file."""
    found = DOMAINS[domain].distinct("eval", "test", count)
    return [line_of(example, i) for i, example in enumerate(found, 1)]


def write(folder, count):
    """Writes the files of all domains."""
    os.makedirs(folder, exist_ok=True)
    for domain in DOMAINS:
        with open(f"{folder}/{domain}.jsonl", "w", encoding="utf-8") as file:
            for line in held_out(domain, count):
                file.write(json.dumps(line) + "\n")


def read(path):
    """The lines of an evaluation file."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def right(line, given):
    """Whether an answer is right: equal text, or equal rows."""
    if line["check"] != "sql":
        return given.strip() == line["answer"].strip()
    try:
        rows = run_sql(line["setup"], given)
    except (sqlite3.Error, sqlite3.Warning):
        return False
    wanted = run_sql(line["setup"], line["answer"])
    if "ORDER BY" not in line["answer"].upper():
        rows, wanted = sorted(rows, key=repr), sorted(wanted, key=repr)
    return rows == wanted
