# SPDX-License-Identifier: Apache-2.0
"""What every task generator shares: the example, the split and the drawing.

A domain is a table of *kinds*.  A kind is a function of a `random.Random`
that returns a `Scene`; everything else (which split a question belongs to,
how a set is drawn) is decided here, once, from the question's text.
"""

from dataclasses import dataclass
import hashlib
import random

HELD_OUT_SHARE = 8  # one question in eight is never trained on

NAMES = ("Tom Ann Ben Eva Sam Lea Max Ida Leo Mia Jan Zoe Tim Amy Dan Kim "
         "Rob Sue Joe Meg").split()


@dataclass(frozen=True)
class Example:
    """One question with its one right answer and the way it is checked."""

    question: str
    answer: str
    kind: str = ""
    domain: str = ""
    check: str = "exact"
    setup: str = ""


class Scene:
    """A context and everything that can be asked about it.

    `turns` are (asked, answer) pairs.  A single question is the context with
    one of them; a conversation goes through several.
    """

    def __init__(self, context, turns, check="exact", setup=""):
        self.context, self.turns = context, list(turns)
        self.check, self.setup = check, setup

    def question(self, asked):
        """The self-contained question for one turn."""
        return f"{self.context} {asked}".strip()


def split_of(question):
    """"test" or "train", by the question's text alone."""
    digest = hashlib.sha256(question.encode()).digest()
    return "test" if digest[0] % HELD_OUT_SHARE == 0 else "train"


def vary(rng, *forms):
    """One of several wordings."""
    return forms[rng.randrange(len(forms))]


def pick(rng, pool, count):
    """`count` different members of a pool, in random order."""
    return rng.sample(pool, count)


class Domain:
    """A named table of kinds; draws examples of one split."""

    def __init__(self, name, kinds, weights=None):
        self.name = name
        self.kinds = dict(kinds)
        self.weights = dict(weights or {})

    def _scene(self, rng, split, kind):
        """A kind's name, a scene, and its turns that belong to the split."""
        if kind is None:
            names = list(self.kinds)
            shares = [self.weights.get(name, 1.0) for name in names]
            kind = rng.choices(names, shares)[0]
        while True:
            scene = self.kinds[kind](rng)
            turns = [turn for turn in scene.turns
                     if split_of(scene.question(turn[0])) == split]
            if turns:
                rng.shuffle(turns)
                return kind, scene, turns

    def draw(self, rng, split, kind=None):
        """One example of `split`; the kinds are equally likely unless weighted."""
        kind, scene, turns = self._scene(rng, split, kind)
        asked, answer = turns[0]
        return Example(scene.question(asked), answer, kind, self.name,
                       scene.check, scene.setup)

    def talk(self, rng, limit):
        """A kind and a conversation of the train split: (message, answer)s.

        Only the first message carries the context.  Every turn, taken with the
        context as a single question, belongs to the train split.
        """
        kind, scene, turns = self._scene(rng, "train", None)
        first, answer = turns[0]
        return kind, [(scene.question(first), answer)] + turns[1:limit]

    def distinct(self, seed, split, count):
        """`count` examples with different questions, the kinds in turn."""
        rng = random.Random(f"{self.name}/{split}/{seed}")
        names, seen, found, misses = list(self.kinds), set(), [], 0
        while len(found) < count and misses < 200 * count:
            kind = names[(len(found) + misses) % len(names)]
            example = self.draw(rng, split, kind)
            if example.question in seen:
                misses += 1
                continue
            seen.add(example.question)
            found.append(example)
        if len(found) < count:
            raise ValueError(f"{self.name}: only {len(found)} questions")
        return found
