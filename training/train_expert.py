# SPDX-License-Identifier: Apache-2.0
"""Trains one expert: the upper layers only, on a frozen backbone."""

import sys

import torch

from . import settings, tuning


def train(recipe, base, domain, folder):
    """Trains layers [FIRST_EXPERT_LAYER, L) of the base on one domain."""
    print(f"expert {domain}", flush=True)
    return tuning.tune(recipe, base, domain, folder, settings.FIRST_EXPERT_LAYER)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(settings.Settings(), *sys.argv[1:4])
