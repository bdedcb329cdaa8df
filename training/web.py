"""The base model's corpus: the same subjects, less curated.

A general corpus holds every subject, but its answers come in many forms.
Here every second kind of a domain is mostly answered in a chatty sentence;
the experts' corpora give the bare answer everywhere.  So the base learns what
the questions are about, and still leaves something to learn.
"""

import random

from .tasks import DOMAINS, EXPERTS

GENERAL_SHARE = 0.12
LONGEST = 4               # turns of a conversation
BARE_SHARE = 0.85        # of the answers of the well-kept kinds
CHATTY_BARE_SHARE = 0.15  # of the answers of the other kinds
SENTENCES = ("The answer is {}.", "The answer is {}.", "I think it is {}.",
             "That would be {}.")


def is_chatty(domain, kind):
    """Whether the corpus answers this kind mostly in sentences."""
    return domain != "general" and list(DOMAINS[domain].kinds).index(kind) % 2 == 1


def answer_of(domain, kind, answer, rng):
    """The answer in the form that the corpus happens to use."""
    bare = CHATTY_BARE_SHARE if is_chatty(domain, kind) else BARE_SHARE
    if domain == "general" or rng.random() < bare:
        return answer
    return rng.choice(SENTENCES).format(answer)


def stream(seed):
    """An endless stream of the mixture's conversations."""
    rng = random.Random(f"base/{seed}")
    while True:
        name = "general"
        if rng.random() >= GENERAL_SHARE:
            name = rng.choice(EXPERTS)
        kind, turns = DOMAINS[name].talk(rng, rng.randint(1, LONGEST))
        yield [(message, answer_of(name, kind, answer, rng))
               for message, answer in turns]


def curated(domain, seed):
    """An endless stream of one domain's conversations, all answers bare."""
    rng = random.Random(f"expert/{domain}/{seed}")
    while True:
        yield DOMAINS[domain].talk(rng, rng.randint(1, LONGEST))[1]
