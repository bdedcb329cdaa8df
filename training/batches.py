# SPDX-License-Identifier: Apache-2.0
"""Turns streams of conversations into padded batches of tokens."""

import itertools
import random

import torch


def encode(tokenizer, turns, prompt_weight=0.0):
    """The tokens of a rendered conversation, and every token's weight.

    Answers and the ends of answers count 1, all else `prompt_weight`.
    """
    tokens, weights = [], []
    for message, answer in turns:
        prompt = tokenizer.prompt(message)
        reply = tokenizer.encode(answer) + [tokenizer.end]
        tokens += prompt + reply
        weights += [prompt_weight] * len(prompt) + [1.0] * len(reply)
    return tokens, weights


def pad(rows, filler):
    """A rectangle of the rows, filled up on the right."""
    width = max(len(row) for row in rows)
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows])


def _batch(chunk, filler):
    """Inputs, targets and the weight of every target."""
    tokens = pad([row for row, _ in chunk], filler)
    weights = pad([weights for _, weights in chunk], 0.0)
    return tokens[:, :-1], tokens[:, 1:], weights[:, 1:]


def batches(tokenizer, talks, batch_tokens, prompt_weight, seed, pool=2048):
    """Endless batches of about `batch_tokens`, of rows of like length."""
    rng = random.Random(f"batches/{seed}")
    while True:
        rows = [encode(tokenizer, turns, prompt_weight)
                for turns in itertools.islice(talks, pool)]
        rows.sort(key=lambda row: len(row[0]))
        chunks, chunk = [], []
        for row in rows:
            if (len(chunk) + 1) * len(row[0]) > batch_tokens:
                chunks.append(chunk)
                chunk = []
            chunk.append(row)
        chunks.append(chunk)
        rng.shuffle(chunks)
        for chunk in chunks:
            yield _batch(chunk, tokenizer.pad)
