"""Small Python functions: what they return, and how to write them."""

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
    low, high = dict([("+", (1, 15)), ("-", (10, 20)), ("*", (2, 9))])[op]
    calls = [(x, {"+": x + c, "-": x - c, "*": x * c}[op])
             for x in pick(rng, range(low, high + 1), TURNS)]
    return _scene(rng, var, f"{var} {op} {c}", calls)


def first_of(rng):
    """Picks an argument or compares two."""
    body, function = vary(rng, ("a", lambda a, b: a), ("b", lambda a, b: b),
                          ("max(a, b)", max), ("min(a, b)", min))
    calls = [(f"{a}, {b}", function(a, b))
             for a, b in (pick(rng, range(10), 2) for _ in range(TURNS))]
    return _scene(rng, "a, b", body, calls)


def index(rng):
    at = rng.choice([0, 1, 2, -1])
    calls = [(values, values[at]) for values in _lists(rng)]
    return _scene(rng, "a", f"a[{at}]", calls)


def condition(rng):
    limit, (yes, no) = rng.randint(2, 7), vary(rng, *PAIRS)
    sign = vary(rng, ">", "<")
    calls = []
    for x in pick(rng, range(10), TURNS):
        calls.append((x, yes if (x > limit if sign == ">" else x < limit) else no))
    return _scene(rng, "x", f"'{yes}' if x {sign} {limit} else '{no}'", calls)


def lists(rng):
    body, function = vary(rng, ("a[::-1]", lambda a: a[::-1]),
                          ("a[1:]", lambda a: a[1:]), ("a[:2]", lambda a: a[:2]))
    calls = [(values, function(values)) for values in _lists(rng, 3)]
    return _scene(rng, "a", body, calls)


def strings(rng):
    two = vary(rng, *WORDS)
    body, function = vary(rng, (f"s + '{two}'", lambda s: s + two),
                          (f"'{two}' + s", lambda s: two + s),
                          ("s * 2", lambda s: s * 2))
    calls = [(f"'{one}'", function(one)) for one in pick(rng, WORDS, TURNS)]
    return _scene(rng, "s", body, calls)


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
