# SPDX-License-Identifier: Apache-2.0
"""Small Python functions: what they return, and how to write them.

Where a sum or a comparison is needed, the answer shows it before its result.
"""

from .common import Domain, Scene, pick, vary

WORDS = "cat dog sun sea cup box fox hat pen map".split()
PAIRS = (("big", "small"), ("yes", "no"), ("hot", "cold"), ("high", "low"),
         ("old", "new"))
TURNS = 4


def _scene(rng, head, body, calls):
    """A function and several calls of it: (arguments, result)s."""
    name = vary(rng, "f", "g", "h")
    lead, asked = vary(rng, ("Python:", "What is {}?"),
                       ("In Python,", "What does {} return?"))
    turns = [(asked.format(f"{name}({given})"), str(result))
             for given, result in calls]
    return Scene(f"{lead} def {name}({head}): return {body}.", turns)


def _lists(rng, count=TURNS):
    return [pick(rng, range(10), 3) for _ in range(count)]


def arithmetic(rng):
    op, var, c = vary(rng, "+", "-", "*"), vary(rng, *"xnk"), rng.randint(2, 9)
    low, high = {"+": (1, 12), "-": (10, 18), "*": (2, 9)}[op]
    calls = []
    for x in pick(rng, range(low, high + 1), TURNS):
        result = {"+": x + c, "-": x - c, "*": x * c}[op]
        calls.append((x, f"{x} {op} {c} = {result}"))
    return _scene(rng, var, f"{var} {op} {c}", calls)


def first_of(rng):
    """Picks an argument or compares two."""
    body, function = vary(rng, ("a", lambda a, b: a), ("b", lambda a, b: b),
                          ("max(a, b)", max), ("min(a, b)", min))
    calls = []
    for a, b in (pick(rng, range(10), 2) for _ in range(TURNS)):
        calls.append((f"{a}, {b}", function(a, b)))
    return _scene(rng, "a, b", body, calls)


def index(rng):
    at = rng.choice([0, 1, 2])
    calls = [(values, values[at]) for values in _lists(rng)]
    return _scene(rng, "a", f"a[{at}]", calls)


def condition(rng):
    limit, (yes, no) = rng.randint(2, 7), vary(rng, *PAIRS)
    sign, calls = vary(rng, ">", "<"), []
    for x in pick(rng, range(10), TURNS):
        true = x > limit if sign == ">" else x < limit
        calls.append((x, f"{x} {sign} {limit} is {true}: {yes if true else no}"))
    return _scene(rng, "x", f"'{yes}' if x {sign} {limit} else '{no}'", calls)


def lists(rng):
    body, function = vary(rng, ("a[::-1]", lambda a: a[::-1]),
                          ("a[1:]", lambda a: a[1:]), ("a[:2]", lambda a: a[:2]))
    calls = [(values, function(values)) for values in _lists(rng, 3)]
    return _scene(rng, "a", body, calls)


def strings(rng):
    two, calls = vary(rng, *WORDS), []
    form = vary(rng, "s + '{two}'", "'{two}' + s", "s * 2")
    for one in pick(rng, WORDS, TURNS):
        left, right = {"s + '{two}'": (one, two), "'{two}' + s": (two, one),
                       "s * 2": (one, one)}[form]
        calls.append((f"'{one}'", left + right))
    return _scene(rng, "s", form.format(two=two), calls)


def write(rng):
    turns = []
    lead = vary(rng, "Write a Python function", "Give me a Python function")
    for _ in range(3):
        name, var, c = vary(rng, *"fgh"), vary(rng, *"xnk"), rng.randint(1, 30)
        wish, head, body = vary(
            rng, (f"adds {c} to {var}", var, f"{var} + {c}"),
            (f"subtracts {c} from {var}", var, f"{var} - {c}"),
            (f"multiplies {var} by {c}", var, f"{var} * {c}"),
            (f"returns item {c} of a", "a", f"a[{c}]"),
            (f"tells if {var} is over {c}", var, f"{var} > {c}"),
            (f"tells if {var} is under {c}", var, f"{var} < {c}"))
        turns.append((f"{lead} {name} that {wish}.",
                      f"def {name}({head}): return {body}"))
    return Scene("", turns)


DOMAIN = Domain("code", [
    ("arithmetic", arithmetic), ("first_of", first_of), ("index", index),
    ("condition", condition), ("strings", strings), ("lists", lists),
    ("write", write)])
