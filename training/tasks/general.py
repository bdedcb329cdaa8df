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
    rows = list(zip(pick(rng, NAMES, 3), pick(rng, COLORS, 3),
                    pick(rng, OBJECTS, 3)))
    story = " ".join(f"{n} has a {c} {t}." for n, c, t in rows)
    turns = []
    for name, color, thing in rows:
        turns.append(vary(rng, (f"Who has the {thing}?", name),
                          (f"What color is the {thing}?", color),
                          (f"What does {name} have?", f"a {color} {thing}")))
    return Scene(story, turns)


def place(rng):
    count = rng.randint(2, 3)
    rows = list(zip(pick(rng, NAMES, count), pick(rng, PLACES, count)))
    verb = vary(rng, "is", "sleeps", "plays", "waits")
    story = " ".join(f"{n} {verb} in the {p}." for n, p in rows)
    turns = [vary(rng, (f"Where is {n}?", f"in the {p}"),
                  (f"Who is in the {p}?", n)) for n, p in rows]
    return Scene(story, turns)


def moves(rng):
    """The last place counts."""
    one, two = pick(rng, NAMES, 2)
    a, b, c = pick(rng, PLACES, 3)
    return Scene(f"{one} goes to the {a}. {two} goes to the {b}. Then {one} goes "
                 f"to the {c}.", [(f"Where is {one} now?", f"in the {c}"),
                                  (f"Where is {two} now?", f"in the {b}")])


DOMAIN = Domain("general", [
    ("opposite", _several(opposite)), ("capital", _several(capital)),
    ("following", _several(following)), ("owner", owner), ("place", place),
    ("moves", moves)])
