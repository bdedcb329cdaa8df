# SPDX-License-Identifier: Apache-2.0
"""What the expert's and the full fine-tuning share: all but the frozen part."""

import json

import torch

from . import batches, checkpoint, optimise, settings, web
from .train_base import report


def freeze(model, first_layer):
    """Leaves a gradient to the decoder layers from `first_layer` on only."""
    for name, weight in model.named_parameters():
        parts = name.split(".")
        weight.requires_grad = (parts[1] == "layers"
                                and int(parts[2]) >= first_layer)


def tune(recipe, base, domain, folder, frozen_layers):
    """Fine-tunes the stored base on one domain and writes the folder.

    The data, their order and the number of tokens depend on the domain and the
    seed only, so an expert and its full fine-tuning see the same batches.  The
    base comes from its bfloat16 file, so frozen tensors survive bit for bit.
    """
    torch.manual_seed(recipe.seed)
    model, words = checkpoint.load(base)
    if frozen_layers:
        freeze(model, frozen_layers)
    stream = batches.batches(words, web.curated(domain, recipe.seed),
                             settings.BATCH_TOKENS, 0.0, recipe.seed)
    cost = optimise.run(model, stream, recipe.scaled(recipe.tuned), frozen_layers,
                        report)
    checkpoint.save(model, words, folder)
    with open(f"{folder}/training.json", "w", encoding="utf-8") as file:
        json.dump(dict(cost, frozen_layers=frozen_layers, seed=recipe.seed), file)
    return model
