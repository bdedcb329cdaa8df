# SPDX-License-Identifier: Apache-2.0
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
PLACES = "court tribunal office council".split()


def _party(rng, mode):
    """A clause on what a party must or may do, and its question."""
    party, act = vary(rng, *PARTIES), vary(rng, *ACTS)
    clause = f"The {party} {mode} {act}"
    return clause, vary(rng, f"What {mode} the {party} do?",
                        f"Say what the {party} {mode} do."), f"{clause}."


def _must(rng):
    return _party(rng, "must")


def _may(rng):
    return _party(rng, "may")


def _due(rng):
    what, day = vary(rng, *DUES), rng.randint(1, 28)
    clause = f"The {what} is due on day {day}"
    return clause, vary(rng, f"When is the {what} due?", f"What is the deadline "
                        f"for the {what}?"), f"{clause}."


def _cost(rng):
    fault, price = vary(rng, *FAULTS), 5 * rng.randint(1, 19)
    clause = f"A {fault} costs {price} dollars"
    return clause, vary(rng, f"What does a {fault} cost?",
                        f"What is owed for a {fault}?"), f"{clause}."


def _notice(rng):
    clause = f"Leaving needs {rng.randint(2, 60)} days notice"
    return clause, vary(rng, "What notice is needed?", "What does leaving need?",
                        "Which notice must be given?"), f"{clause}."


def _disputes(rng):
    clause = f"Disputes go to the {vary(rng, *PLACES)} of {vary(rng, *CITIES)}"
    return clause, vary(rng, "Where do disputes go?",
                        "Who decides disputes?"), f"{clause}."


CITIES = "Rome Paris Oslo Bern Lima Athens Cairo Berlin Vienna Madrid".split()
SUBJECTS = dict(task=_must, right=_may, due=_due, cost=_cost, notice=_notice,
                disputes=_disputes)


def _number(rng, clauses):
    """The clauses in random order as "Clause 1: ... Clause 2: ..."."""
    rng.shuffle(clauses)
    return " ".join(f"Clause {i}: {text}." for i, text in enumerate(clauses, 1))


def _others(rng, subjects, count):
    """Clauses on other subjects."""
    free = [name for name in SUBJECTS if name not in subjects]
    return [SUBJECTS[name](rng) for name in pick(rng, free, count)]


def _asks(subject):
    """A kind: the clause on one subject, among others, is asked for first."""
    def kind(rng):
        made = [SUBJECTS[subject](rng)] + _others(rng, [subject], rng.randint(1, 2))
        text = _number(rng, [clause for clause, _, _ in made])
        return Scene(text, [made[0][1:]])
    return kind


def late(rng):
    limit, what = rng.randint(2, 7), vary(rng, *DUES)
    clauses = [clause for clause, _, _ in _others(rng, ["due"], 1)]
    turns = [(f"The {what} is paid on day {day}. Is it late?",
              f"Due on day {limit}, paid on day {day}: "
              f"{'late' if day > limit else 'in time'}.")
             for day in pick(rng, range(1, 10), 4)]
    return Scene(_number(rng, clauses + [f"The {what} is due on day {limit}"]), turns)


def duty(rng):
    """Whether a party is obliged to act or only free to."""
    mode, word = vary(rng, ("must", "duty"), ("may", "right"))
    party, act = vary(rng, *PARTIES), vary(rng, *ACTS)
    clauses = [clause for clause, _, _ in _others(rng, ["task", "right"], 1)]
    clauses.append(f"The {party} {mode} {act}")
    return Scene(_number(rng, clauses), [
        (vary(rng, f"Has the {party} a duty or a right?",
              f"Is this a duty or a right of the {party}?"),
         f"The {party} {mode} {act}: a {word}.")])


DOMAIN = Domain("law", [
    ("task", _asks("task")), ("due", _asks("due")), ("right", _asks("right")),
    ("notice", _asks("notice")), ("late", late), ("duty", duty),
    ("cost", _asks("cost")), ("disputes", _asks("disputes"))])
