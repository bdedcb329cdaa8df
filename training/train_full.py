# SPDX-License-Identifier: Apache-2.0
"""Fine-tunes every weight on one domain: what an expert is compared with."""

import sys

import torch

from . import settings, tuning


def train(recipe, base, domain, folder):
    """Trains all layers on the batches that the domain's expert saw."""
    print(f"full {domain}", flush=True)
    return tuning.tune(recipe, base, domain, folder, 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(settings.Settings(), *sys.argv[1:4])
