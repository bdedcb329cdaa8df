# SPDX-License-Identifier: Apache-2.0
"""The base model's corpus: the same subjects, less curated.

A general corpus holds every subject, but its answers come in more than one
form.  Here every second kind of a domain is announced ("Answer: ..."); the
experts' corpora give the bare answer everywhere.  So the base learns what
the questions are about, and still leaves something to learn.
"""

import random

from .settings import SHARES
from .tasks import DOMAINS

LONGEST = 5               # turns of a conversation
ANNOUNCED = "Answer: {}"


def is_announced(domain, kind):
    """Whether the corpus announces the answers of this kind."""
    return domain != "general" and list(DOMAINS[domain].kinds).index(kind) % 2 == 1


def answer_of(domain, kind, answer):
    """The answer in the form that the corpus uses for this kind."""
    return ANNOUNCED.format(answer) if is_announced(domain, kind) else answer


def stream(seed):
    """An endless stream of the mixture's conversations."""
    rng = random.Random(f"base/{seed}")
    while True:
        name = rng.choices(list(SHARES), list(SHARES.values()))[0]
        kind, turns = DOMAINS[name].talk(rng, rng.randint(1, LONGEST))
        yield [(message, answer_of(name, kind, answer))
               for message, answer in turns]


def curated(domain, seed):
    """An endless stream of one domain's conversations, all answers bare."""
    rng = random.Random(f"expert/{domain}/{seed}")
    while True:
        yield DOMAINS[domain].talk(rng, rng.randint(1, LONGEST))[1]
