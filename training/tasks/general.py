# SPDX-License-Identifier: Apache-2.0
"""Everyday language: facts, opposites, completions and tiny stories."""

from .common import Domain, NAMES, Scene, pick, vary

OPPOSITES = [pair.split("-") for pair in (
    "hot-cold big-small old-new fast-slow up-down left-right day-night "
    "happy-sad open-closed full-empty wet-dry hard-soft light-dark long-short "
    "early-late rich-poor loud-quiet strong-weak near-far clean-dirty "
    "high-low thick-thin true-false good-bad").split()]
CAPITALS = [pair.split("-") for pair in (
    "France-Paris Italy-Rome Spain-Madrid Norway-Oslo Austria-Vienna "
    "Greece-Athens Japan-Tokyo Peru-Lima Cuba-Havana Egypt-Cairo "
    "Poland-Warsaw Portugal-Lisbon Ireland-Dublin Germany-Berlin "
    "Sweden-Stockholm Denmark-Copenhagen Finland-Helsinki Hungary-Budapest "
    "Kenya-Nairobi Chile-Santiago").split()]
CHAINS = ("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
          ("January February March April May June July August September "
           "October November December").split())
COLORS = "red blue green black white brown".split()
OBJECTS = "ball hat cup book bike coat lamp kite drum flag".split()
PLACES = ("garden kitchen park school forest library market station barn "
          "attic").split()


def opposite(rng):
    pair = list(vary(rng, *OPPOSITES))
    rng.shuffle(pair)
    a, b = pair
    question = vary(rng, f"What is the opposite of {a}?", f"Opposite of {a}?",
                    f"Name the opposite of {a}.", f"Not {a} but the opposite: what?",
                    f"Which word means the opposite of {a}?",
                    f"Tell me the opposite of {a}.")
    return question, b


def capital(rng):
    country, city = vary(rng, *CAPITALS)
    question = vary(rng, f"What is the capital of {country}?",
                    f"Name the capital of {country}.", f"Capital of {country}?",
                    f"Which city is the capital of {country}?",
                    f"Tell me the capital of {country}.",
                    f"{country} has which capital?")
    return question, city


def following(rng):
    chain = vary(rng, *CHAINS)
    at = rng.randrange(1, len(chain) - 1)
    forms = [(f"What comes after {chain[at]}?", chain[at + 1]),
             (f"What comes before {chain[at]}?", chain[at - 1]),
             (f"Complete: {chain[at - 1]}, {chain[at]},", chain[at + 1]),
             (f"Which one follows {chain[at]}?", chain[at + 1]),
             (f"Tell me what comes after {chain[at]}.", chain[at + 1])]
    return vary(rng, *forms)


def _several(make):
    """A kind of unconnected questions."""
    return lambda rng: Scene("", [make(rng) for _ in range(4)])


def owner(rng):
    name, color, thing = vary(rng, *NAMES), vary(rng, *COLORS), vary(rng, *OBJECTS)
    verb, place = vary(rng, "sits", "sleeps", "plays", "waits"), vary(rng, *PLACES)
    sentences = [f"{name} has a {color} {thing}.", f"{name} {verb} in the {place}."]
    rng.shuffle(sentences)
    return Scene(" ".join(sentences), [
        (f"What does {name} have?", f"{name} has a {color} {thing}."),
        (f"Where is {name}?", f"{name} {verb} in the {place}."),
        (f"What color is the {thing}?", f"The {thing} is {color}.")])


def visit(rng):
    one, two = pick(rng, NAMES, 2)
    place, thing = vary(rng, *PLACES), vary(rng, *OBJECTS)
    return Scene(f"{one} meets {two} in the {place} and gives away a {thing}.", [
        (f"Where does {one} meet {two}?", f"In the {place}."),
        (f"Who meets {one}?", f"{two}."), ("What is given away?", f"A {thing}.")])


DOMAIN = Domain("general", [
    ("opposite", _several(opposite)), ("capital", _several(capital)),
    ("following", _several(following)), ("owner", owner), ("visit", visit)])
