# SPDX-License-Identifier: Apache-2.0
"""Trains the tokenizer and the base model on the mixture."""

import itertools
import json
import sys

import torch

from . import batches, checkpoint, optimise, settings, tokenizer, web
from .model import Llama, ModelConfig


def make_tokenizer(seed):
    """A tokenizer trained on the head of the mixture."""
    talks = itertools.islice(web.stream(f"tokenizer/{seed}"),
                             settings.TOKENIZER_TEXTS)
    texts = [text for talk in talks for turn in talk for text in turn]
    return tokenizer.Tokenizer(tokenizer.train(texts, settings.VOCABULARY))


def report(steps, seen, loss, seconds):
    """One line of progress."""
    print(f"step {steps} tokens {seen} loss {loss:.4f} "
          f"{seen / seconds:.0f} tokens/s {seconds:.0f} s", flush=True)


def train(recipe, folder):
    """Trains the base, writes its folder and `training.json`."""
    torch.manual_seed(recipe.seed)
    words = make_tokenizer(recipe.seed)
    model = Llama(ModelConfig(vocab_size=words.size,
                              num_hidden_layers=settings.LAYERS))
    count = sum(p.numel() for p in model.parameters())
    print(f"base: {count} parameters, vocabulary {words.size}", flush=True)
    stream = batches.batches(words, web.stream(recipe.seed),
                             settings.BATCH_TOKENS, settings.PROMPT_WEIGHT,
                             recipe.seed)
    cost = optimise.run(
        model, stream, recipe.scaled(recipe.base),
        report=lambda *at: (report(*at), peek(model, words, *at)))
    checkpoint.save(model, words, folder)
    with open(f"{folder}/training.json", "w", encoding="utf-8") as file:
        json.dump(dict(cost, parameters=count, seed=recipe.seed), file)
    return model


def peek(model, words, steps, *_):
    """Every 500 steps, a glance at the held-out questions."""
    if steps % 500:
        return
    from . import evaluate
    for name, share in evaluate.glance(model, words).items():
        print(f"  {name}: {share}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(settings.Settings(), sys.argv[1])
