# SPDX-License-Identifier: Apache-2.0
"""Scores a model on the held-out questions by greedy decoding.

A question whose reference answer is the most likely token at every position
is answered with exactly that text by greedy decoding; one forward pass over
prompt and reference finds these.  Only the rest is decoded token by token.
"""

import json
import math
import sys

import torch

from . import batches, checkpoint, questions
from .tasks import DOMAINS

MAX_NEW = 40
GROUP = 64


def row_of(words, question, answer):
    """The tokens of question and answer, and where the answer starts."""
    start = len(words.prompt(question))
    return batches.encode(words, [(question, answer)])[0], start


def _groups(rows):
    """Index groups of rows of like length."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    return [order[i:i + GROUP] for i in range(0, len(order), GROUP)]


def follows(model, rows, filler):
    """For every (tokens, start): is each token from `start` on the likeliest?"""
    out = [False] * len(rows)
    for group in _groups(rows):
        tokens = batches.pad([rows[i][0] for i in group], filler)
        best = model(tokens[:, :-1]).argmax(-1)
        for at, i in enumerate(group):
            row, start = rows[i]
            wanted = tokens[at, start:len(row)]
            out[i] = bool((best[at, start - 1:len(row) - 1] == wanted).all())
    return out


def decode(model, words, prompts):
    """Greedy answers; right padding is harmless under a causal mask."""
    answers = [None] * len(prompts)
    for group in _groups([(prompt, 0) for prompt in prompts]):
        rows, done = [list(prompts[i]) for i in group], [False] * len(group)
        for _ in range(MAX_NEW):
            live = [at for at, over in enumerate(done) if not over]
            if not live:
                break
            hidden = model.hidden(batches.pad([rows[at] for at in live], words.pad))
            last = hidden[range(len(live)), [len(rows[at]) - 1 for at in live]]
            for at, token in zip(live, model.logits(last).argmax(-1).tolist()):
                rows[at].append(token)
                done[at] = token == words.end
        for at, i in enumerate(group):
            answers[i] = words.decode(rows[at][len(prompts[i]):])
    return answers


@torch.no_grad()
def answer(model, words, lines):
    """The model's greedy answer to every line."""
    model.eval()
    rows = [row_of(words, line["question"], line["answer"]) for line in lines]
    agreed = follows(model, rows, words.pad)
    rest = [i for i, same in enumerate(agreed) if not same]
    answers = [line["answer"] for line in lines]
    prompts = [words.prompt(lines[i]["question"]) for i in rest]
    for i, text in zip(rest, decode(model, words, prompts)):
        answers[i] = text
    return answers


def wilson(hits, count):
    """The 95 % Wilson interval of a share, in percent."""
    z, share = 1.96, hits / count
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count
                           + z * z / (4 * count * count))
    scale = 100 / (1 + z * z / count)
    return [round((middle - spread) * scale, 1), round((middle + spread) * scale, 1)]


def score(model, words, lines):
    """Exact score, interval, and how often the right text is in the answer."""
    answers = answer(model, words, lines)
    hits = [questions.right(line, text) for line, text in zip(lines, answers)]
    inside = [hit or line["answer"] in text
              for hit, line, text in zip(hits, lines, answers)]
    count = len(lines)
    return dict(n=count, right=sum(hits), percent=round(100 * sum(hits) / count, 1),
                interval=wilson(sum(hits), count),
                contains_percent=round(100 * sum(inside) / count, 1))


@torch.no_grad()
def glance(model, words, count=20):
    """Teacher-forced accuracy of every kind of every domain, in words."""
    model.eval()
    out = {}
    for name, domain in DOMAINS.items():
        found = domain.distinct("glance", "test", count * len(domain.kinds)
                                if name != "general" else 60)
        rows = [row_of(words, e.question, e.answer) for e in found]
        hits = follows(model, rows, words.pad)
        parts = []
        for kind in domain.kinds:
            mine = [h for h, e in zip(hits, found) if e.kind == kind]
            parts.append(f"{kind} {100 * sum(mine) / len(mine):.0f}")
        out[name] = f"{100 * sum(hits) / len(hits):.0f} ({', '.join(parts)})"
    model.train()
    return out


def main(folder, path):
    """Prints the score of a model folder on a question file."""
    torch.set_num_threads(1)
    model, words = checkpoint.load(folder)
    print(json.dumps(score(model, words, questions.read(path))))


if __name__ == "__main__":
    main(*sys.argv[1:3])
