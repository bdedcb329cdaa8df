# SPDX-License-Identifier: Apache-2.0
"""Arithmetic and short word problems; the answer is the whole equation."""

from .common import Domain, NAMES, Scene, pick, vary

THINGS = "apples pens books cups coins balls hats eggs nuts cards".split()
TURNS = 4


def _sum(rng):
    return rng.randint(1, 15), rng.randint(1, 9)


def _difference(rng):
    b = rng.randint(1, 9)
    return b + rng.randint(1, 9), b


def _product(rng):
    return rng.randint(2, 9), rng.randint(2, 9)


def add(rng):
    turns = []
    for _ in range(TURNS):
        a, b = _sum(rng)
        turns.append((vary(rng, f"What is {a} + {b}?", f"Compute {a} + {b}.",
                           f"What is the sum of {a} and {b}?",
                           f"Add {a} and {b}."), f"{a} + {b} = {a + b}"))
    return Scene("", turns)


def subtract(rng):
    turns = []
    for _ in range(TURNS):
        a, b = _difference(rng)
        turns.append((vary(rng, f"What is {a} - {b}?", f"Compute {a} - {b}.",
                           f"Subtract {b} from {a}.",
                           f"What is {a} minus {b}?"), f"{a} - {b} = {a - b}"))
    return Scene("", turns)


def times(rng):
    turns = []
    for _ in range(TURNS):
        a, b = _product(rng)
        turns.append((vary(rng, f"What is {a} * {b}?", f"What is {a} times {b}?",
                           f"Compute {a} * {b}.", f"Multiply {a} by {b}.",
                           f"What is the product of {a} and {b}?",
                           f"Compute {a} times {b}."), f"{a} * {b} = {a * b}"))
    return Scene("", turns)


def gain(rng):
    turns = []
    for _ in range(2):
        name, thing, (a, b) = vary(rng, *NAMES), vary(rng, *THINGS), _sum(rng)
        verb = vary(rng, "buys", "finds", "gets")
        turns.append((f"{name} has {a} {thing} and {verb} {b} more. How many "
                      f"{thing} does {name} have?", f"{a} + {b} = {a + b}"))
    return Scene("", turns)


def loss(rng):
    turns = []
    for _ in range(2):
        name, thing = vary(rng, *NAMES), vary(rng, *THINGS)
        a, b = _difference(rng)
        verb = vary(rng, "loses", "sells", "gives away")
        turns.append((f"{name} has {a} {thing} and {verb} {b}. How many {thing} "
                      f"are left?", f"{a} - {b} = {a - b}"))
    return Scene("", turns)


def compare(rng):
    one, two = pick(rng, NAMES, 2)
    thing, (a, b) = vary(rng, *THINGS), _difference(rng)
    context = f"{one} has {a} {thing}. {two} has {b} {thing}."
    return Scene(context, [
        (f"How many more {thing} does {one} have?", f"{a} - {b} = {a - b}"),
        (f"How many {thing} do both have?", f"{a} + {b} = {a + b}")])


def groups(rng):
    turns = []
    for _ in range(2):
        thing, (a, b) = vary(rng, *THINGS), _product(rng)
        holder = vary(rng, "boxes", "bags", "rows", "shelves")
        turns.append((f"There are {a} {holder} with {b} {thing} each. How many "
                      f"{thing} are there?", f"{a} * {b} = {a * b}"))
    return Scene("", turns)


def largest(rng):
    turns = []
    for _ in range(3):
        values = [10 * tens + rng.randint(0, 9)
                  for tens in pick(rng, range(1, 10), 2)]
        word, best = vary(rng, ("larger", max), ("smaller", min))
        a, b = values
        turns.append((f"What is {word}, {a} or {b}?", str(best(values))))
    return Scene("", turns)


DOMAIN = Domain("math", [
    ("add", add), ("gain", gain), ("subtract", subtract), ("loss", loss),
    ("times", times), ("groups", groups), ("larger", largest),
    ("compare", compare)])
