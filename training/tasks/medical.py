"""Rules of invented guidelines, and what they say for a patient's findings.

Neither the guidelines nor the advice mean anything outside the question.
"""

from .common import Domain, Scene, pick, vary

GUIDELINES = "Alba Birch Cedar Delta Elm Fir Gala Hazel Iris Juno Kite Lark".split()
FINDINGS = "fever cough rash pain nausea cramps chills thirst".split()
ADVICE = "rest tea cream ice heat syrup drops fluids salt broth".split()
SIGNS = ("pulse", "weight", "score", "level")


def _scene(rng, rules, cases):
    """A guideline and several patients: (findings, advice)s."""
    asked = vary(rng, "What does the guideline say?", "What is advised?")
    return Scene(f"Guideline {vary(rng, *GUIDELINES)}: {rules}.",
                 [(f"The patient {case}. {asked}", advice)
                  for case, advice in cases])


def finding(rng):
    count = rng.randint(2, 3)
    rows = list(zip(pick(rng, FINDINGS, count), pick(rng, ADVICE, count)))
    return _scene(rng, ", ".join(f"for {s} give {a}" for s, a in rows),
                  [(f"has {s}", f"give {a}") for s, a in rows])


def threshold(rng):
    sign, word, tens = vary(rng, *SIGNS), vary(rng, "over", "under"), rng.randint(2, 8)
    one, two = pick(rng, ADVICE, 2)
    cases = []
    for other in pick(rng, [t for t in range(1, 10) if t != tens], 4):
        true = other > tens if word == "over" else other < tens
        cases.append((f"has {sign} {10 * other + rng.randint(0, 9)}",
                      f"give {one if true else two}"))
    return _scene(rng, f"if {sign} is {word} {tens}0 give {one}, otherwise give "
                  f"{two}", cases)


def both(rng):
    a, b, c, d = pick(rng, FINDINGS, 4)
    one, two = pick(rng, ADVICE, 2)
    cases = [((a, b), one), ((b, a), one), ((rng.choice([a, b]), c), two),
             ((d, rng.choice([a, b])), two)]
    return _scene(rng, f"for {a} with {b} give {one}, otherwise give {two}",
                  [(f"has {x} and {y}", f"give {z}") for (x, y), z in cases])


def unless(rng):
    a, b, c, d = pick(rng, FINDINGS, 4)
    one, two = pick(rng, ADVICE, 2)
    cases = [(b, two), (c, one), (d, one), (b, two)]
    return _scene(rng, f"for {a} give {one}, but with {b} give {two}",
                  [(f"has {a} and {x}", f"give {y}") for x, y in cases[:3]])


def dose(rng):
    what = vary(rng, "drops", "spoons", "cups")
    rows = list(zip(("a child", "an adult"), pick(rng, range(2, 21), 2)))
    rng.shuffle(rows)
    return _scene(rng, ", ".join(f"{p} gets {n} {what}" for p, n in rows),
                  [(f"is {p}", f"{n} {what}") for p, n in rows])


def which(rng):
    count = rng.randint(2, 3)
    rows = list(zip(pick(rng, GUIDELINES, count), pick(rng, FINDINGS, count)))
    context = " ".join(f"Guideline {n} covers {s}." for n, s in rows)
    return Scene(context, [
        (f"The patient has {s}. Which guideline applies?", f"Guideline {n}")
        for n, s in rows])


def often(rng):
    rows = list(zip(pick(rng, SIGNS, 2), pick(rng, range(2, 25), 2)))
    rules = ", ".join(f"check {s} every {h} hours" for s, h in rows)
    return Scene(f"Guideline {vary(rng, *GUIDELINES)}: {rules}.", [
        (f"When is the patient's {s} checked?", f"every {h} hours")
        for s, h in rows])


DOMAIN = Domain("medical", [
    ("finding", finding), ("threshold", threshold), ("both", both),
    ("unless", unless), ("dose", dose), ("which", which), ("often", often)])
