# SPDX-License-Identifier: Apache-2.0
"""Text to SQL over a table that the question states.

The check runs both queries in SQLite over `setup` and compares the rows, so
the rows are drawn to tell the reference from the likely wrong answers.
"""

import random
import sqlite3

from .common import Domain, NAMES, Scene, pick, vary

TABLES = "pets staff books cars songs shops trips games".split()
NUMBERS = "age price size year score weight".split()
TEXTS = "name city color type owner".split()
VALUES = {
    "name": NAMES, "owner": NAMES,
    "city": "Rome Paris Oslo Bern Lima".split(),
    "color": "red blue green black white".split(),
    "type": "small large new old fast".split(),
}
ROWS = 10


class Schema:
    """A random table: its name, its columns in order, and its rows."""

    def __init__(self, rng):
        self.table = vary(rng, *TABLES)
        self.texts = pick(rng, TEXTS, rng.randint(1, 2))
        self.numbers = pick(rng, NUMBERS, rng.randint(1, 2))
        self.columns = self.texts + self.numbers
        rng.shuffle(self.columns)
        self.limit = rng.randint(5, 90)
        self.word_column = self.texts[0]
        self.word = vary(rng, *VALUES[self.word_column])

    def head(self):
        return f"Table {self.table}({', '.join(self.columns)})."

    def _row(self, rng, values, wanted):
        """One row; a wanted one has the word that the question asks for."""
        row = []
        for column in self.columns:
            if column in self.numbers:
                row.append(str(values[column].pop()))
            elif wanted and column == self.word_column:
                row.append(f"'{self.word}'")
            else:
                row.append(f"'{rng.choice(VALUES[column])}'")
        return f"({', '.join(row)})"

    def setup(self, seed):
        """The statements that create and fill the table."""
        rng = random.Random(seed)
        near = [self.limit - 1, self.limit, self.limit + 1]
        far = [value for value in range(1, 100) if value not in near]
        values = {column: near + rng.sample(far, ROWS - len(near))
                  for column in self.numbers}
        for column in self.numbers:
            rng.shuffle(values[column])
        rows = ", ".join(self._row(rng, values, number in (2, 5))
                         for number in range(ROWS))
        kinds = ", ".join(f"{c} {'TEXT' if c in self.texts else 'INTEGER'}"
                          for c in self.columns)
        return (f"CREATE TABLE {self.table} ({kinds}); "
                f"INSERT INTO {self.table} VALUES {rows};")


def run(setup, query):
    """The rows of a query over a fresh database."""
    with sqlite3.connect(":memory:") as database:
        database.executescript(setup)
        return database.execute(query).fetchall()


def _scene(rng, make):
    """A table and several wishes; `make(rng, schema)` gives one with its query."""
    schema, lead = Schema(rng), vary(rng, "SQL:", "Write SQL:")
    turns = {}
    for _ in range(4):
        wish, query = make(rng, schema)
        turns[f"{lead} {wish}"] = query
    return Scene(schema.head(), turns.items(), "sql", schema.setup(schema.head()))


def everything(rng, s):
    wish = vary(rng, f"show all {s.table}.", f"list everything in {s.table}.")
    return wish, f"SELECT * FROM {s.table}"


def column(rng, s):
    col, verb = vary(rng, *s.columns), vary(rng, "show", "list")
    return (f"{verb} the {col} of all {s.table}.",
            f"SELECT {col} FROM {s.table}")


def number(rng, s):
    col, by = vary(rng, *s.columns), vary(rng, *s.numbers)
    word, sign = vary(rng, ("over", ">"), ("under", "<"), ("equal to", "="))
    return (f"the {col} of {s.table} with {by} {word} {s.limit}.",
            f"SELECT {col} FROM {s.table} WHERE {by} {sign} {s.limit}")


def text(rng, s):
    col = vary(rng, *s.columns)
    return (f"the {col} of {s.table} whose {s.word_column} is {s.word}.",
            f"SELECT {col} FROM {s.table} WHERE {s.word_column} = '{s.word}'")


def count(rng, s):
    by = vary(rng, *s.numbers)
    word, sign = vary(rng, ("over", ">"), ("under", "<"))
    return (f"count the {s.table} with {by} {word} {s.limit}.",
            f"SELECT COUNT(*) FROM {s.table} WHERE {by} {sign} {s.limit}")


def aggregate(rng, s):
    by = vary(rng, *s.numbers)
    word, name = vary(rng, ("highest", "MAX"), ("lowest", "MIN"),
                      ("average", "AVG"), ("total", "SUM"))
    return f"the {word} {by} of all {s.table}.", f"SELECT {name}({by}) FROM {s.table}"


def order(rng, s):
    col, by = vary(rng, *s.columns), vary(rng, *s.numbers)
    word, tail = vary(rng, ("lowest", ""), ("highest", " DESC"))
    return (f"the {col} of all {s.table}, {word} {by} first.",
            f"SELECT {col} FROM {s.table} ORDER BY {by}{tail}")


def _kind(make):
    return lambda rng: _scene(rng, make)


DOMAIN = Domain("sql", [
    (make.__name__, _kind(make)) for make in
    (everything, column, number, text, count, aggregate, order)],
    {"everything": 0.5})
