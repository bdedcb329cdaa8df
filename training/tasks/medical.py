# SPDX-License-Identifier: Apache-2.0
"""Rules of invented guidelines, and what they say for a patient.

Neither the guidelines nor the advice mean anything outside the question.
"""

from .common import Domain, Scene, pick, vary

GUIDELINES = "Alba Birch Cedar Delta Elm Fir Gala Hazel Iris Juno Kite Lark".split()
FINDINGS = "fever cough rash pain nausea cramps chills thirst".split()
ADVICE = "rest tea cream ice heat syrup drops fluids salt broth".split()
SIGNS = ("pulse", "weight", "score", "level")
PERSONS = "child adult senior".split()


def _treat(rng):
    finding, advice = vary(rng, *FINDINGS), vary(rng, *ADVICE)
    rule = f"for {finding} give {advice}"
    return rule, f"The patient has {finding}. " + vary(
        rng, "What is given?", "What does the guideline give?"), rule


def _check(rng):
    sign, hours = vary(rng, *SIGNS), rng.randint(2, 24)
    rule = f"check {sign} every {hours} hours"
    return rule, vary(rng, f"When is the patient's {sign} checked?",
                      f"The patient's {sign} is checked when?"), rule


def _stop(rng):
    rule = f"stop after {rng.randint(2, 40)} days"
    return rule, vary(rng, "When does the patient stop?",
                      "The patient may stop when?"), rule


def _dose(rng):
    person, count = vary(rng, *PERSONS), rng.randint(2, 20)
    rule = f"every {person} gets {count} {vary(rng, 'spoons', 'cups', 'pills')}"
    article = "an" if person == "adult" else "a"
    return rule, f"The patient is {article} {person}. " + vary(
        rng, "Which dose applies?", "What is the dose?"), rule


def _avoid(rng):
    rule = f"avoid {vary(rng, 'milk', 'coffee', 'sugar', 'wine', 'meat', 'sun')}"
    rule += vary(rng, " at night", " at noon", " all day")
    return rule, vary(rng, "What must the patient avoid?",
                      "The patient should avoid what?"), rule


SUBJECTS = dict(treat=_treat, check=_check, stop=_stop, dose=_dose, avoid=_avoid)


def _others(rng, subjects, count):
    """Rules on other subjects."""
    free = [name for name in SUBJECTS if name not in subjects]
    return [SUBJECTS[name](rng)[0] for name in pick(rng, free, count)]


def _guideline(rng, rules):
    rng.shuffle(rules)
    return f"Guideline {vary(rng, *GUIDELINES)}: {', '.join(rules)}."


def _sentence(rule):
    return f"{rule[0].upper()}{rule[1:]}."


def _asks(subject):
    """A kind: the rule on one subject, among others, is asked for."""
    def kind(rng):
        rule, asked, answer = SUBJECTS[subject](rng)
        rules = [rule] + _others(rng, [subject], rng.randint(1, 2))
        return Scene(_guideline(rng, rules), [(asked, _sentence(answer))])
    return kind


def threshold(rng):
    """Whether a value is over the limit of the one rule that has one."""
    sign, tens, advice = vary(rng, *SIGNS), rng.randint(2, 8), vary(rng, *ADVICE)
    rules = [f"if {sign} is over {tens}0 give {advice}"]
    rules += _others(rng, ["treat", "check"], 1)
    asked, turns = vary(rng, "What is advised?", "What does the guideline say?"), []
    for other in pick(rng, [t for t in range(1, 10) if t != tens], 4):
        value = 10 * other + rng.randint(0, 9)
        turns.append((f"The patient has {sign} {value}. {asked}",
                      f"{value} is over {tens}0: give {advice}." if other > tens
                      else f"{value} is not over {tens}0: no {advice}."))
    return Scene(_guideline(rng, rules), turns)


DOMAIN = Domain("medical", [
    ("treat", _asks("treat")), ("check", _asks("check")),
    ("threshold", threshold), ("stop", _asks("stop")), ("avoid", _asks("avoid")),
    ("dose", _asks("dose"))])
