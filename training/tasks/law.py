"""Clauses stated in the question, and a question that they decide."""

from .common import Domain, Scene, pick, vary

PARTIES = ("tenant landlord buyer seller worker employer agent client lender "
           "owner").split()
ACTS = ("repair the roof", "paint the door", "keep the keys", "clean the hall",
        "sign the form", "file the report", "insure the house", "sell the car",
        "close the gate", "hire a guard", "pay the tax", "check the meter")
DUES = "rent fee deposit loan bill premium".split()
FAULTS = ("broken window", "late payment", "lost key", "missed report",
          "damaged wall", "noisy party")


def _number(clauses):
    """Joins clauses as "Clause 1: ... Clause 2: ..."."""
    return " ".join(f"Clause {i}: {text}." for i, text in enumerate(clauses, 1))


def _parties(rng, count):
    """Rows of party, "must" or "may", and act; and their clauses."""
    rows = list(zip(pick(rng, PARTIES, count),
                    [vary(rng, "must", "may") for _ in range(count)],
                    pick(rng, ACTS, count)))
    return rows, _number([f"The {p} {m} {a}" for p, m, a in rows])


def who(rng):
    rows, text = _parties(rng, rng.randint(2, 3))
    return Scene(text, [(f"Who {mode} {act}?", f"the {party}")
                        for party, mode, act in rows])


def which(rng):
    rows, text = _parties(rng, rng.randint(2, 3))
    turns = []
    for at, (party, _, act) in enumerate(rows, 1):
        turns.append((vary(rng, f"Which clause binds the {party}?",
                           f"Which clause says who can {act}?"), f"Clause {at}"))
    return Scene(text, turns)


def duty(rng):
    """Whether a party is obliged to act or only free to."""
    rows, text = _parties(rng, 2)
    return Scene(text, [(f"Is it a duty or a right to {act}?",
                         "duty" if mode == "must" else "right")
                        for _, mode, act in rows])


def due(rng):
    rows = list(zip(pick(rng, DUES, 2), pick(rng, range(1, 29), 2)))
    turns = [(vary(rng, f"When is the {what} due?",
                   f"What is the deadline for the {what}?"), f"day {day}")
             for what, day in rows]
    return Scene(_number([f"The {w} is due on day {d}" for w, d in rows]), turns)


def late(rng):
    limit, what = rng.randint(2, 7), vary(rng, *DUES)
    party, act = vary(rng, *PARTIES), vary(rng, *ACTS)
    clauses = [f"The {what} is due on day {limit}", f"The {party} may {act}"]
    rng.shuffle(clauses)
    turns = [(f"The {what} is paid on day {day}. Is it late?",
              "yes" if day > limit else "no") for day in pick(rng, range(1, 10), 4)]
    return Scene(_number(clauses), turns)


def notice(rng):
    rows = list(zip(pick(rng, PARTIES, 2), pick(rng, range(2, 61), 2)))
    turns = [(f"What notice must the {party} give?", f"{days} days")
             for party, days in rows]
    return Scene(_number([f"The {p} may leave with {n} days notice"
                          for p, n in rows]), turns)


def cost(rng):
    rows = list(zip(pick(rng, FAULTS, 2), pick(rng, range(5, 96, 5), 2)))
    turns = [(vary(rng, f"What does a {fault} cost?",
                   f"What is owed for a {fault}?"), f"{price} dollars")
             for fault, price in rows]
    return Scene(_number([f"A {f} costs {n} dollars" for f, n in rows]), turns)


DOMAIN = Domain("law", [
    ("who", who), ("which", which), ("duty", duty), ("due", due),
    ("late", late), ("notice", notice), ("cost", cost)])
