# SPDX-License-Identifier: Apache-2.0
"""The training loop: AdamW, warm-up and cosine, clipped gradients."""

import math
import time
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train; `tokens` counts positions."""

    tokens: int
    rate: float
    warmup: float = 0.04
    floor: float = 0.05
    weight_decay: float = 0.05
    clip: float = 1.0

    def rate_at(self, share):
        """The learning rate after a share of the tokens."""
        if share < self.warmup:
            return self.rate * max(share / self.warmup, 0.01)
        turn = (min(share, 1.0) - self.warmup) / (1 - self.warmup)
        low = self.floor
        return self.rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * turn)))


def optimiser_of(model, schedule):
    """AdamW over what requires a gradient; no decay on the norms."""
    wide = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    thin = [p for p in model.parameters() if p.requires_grad and p.dim() < 2]
    return torch.optim.AdamW(
        [dict(params=wide, weight_decay=schedule.weight_decay),
         dict(params=thin, weight_decay=0.0)],
        lr=schedule.rate, betas=(0.9, 0.98), foreach=True)


def loss_of(model, batch, frozen_layers):
    """Mean cross entropy over the weighted targets only."""
    tokens, targets, weights = batch
    hidden = model.hidden(tokens, frozen_layers)
    chosen = weights > 0
    logits = model.logits(hidden[chosen])
    losses = functional.cross_entropy(logits, targets[chosen], reduction="none")
    weights = weights[chosen]
    return (losses * weights).sum() / weights.sum()


def run(model, stream, schedule, frozen_layers=0, report=None, every=250):
    """Trains in place; returns the tokens, steps and seconds it took."""
    optimiser = optimiser_of(model, schedule)
    trained = [p for p in model.parameters() if p.requires_grad]
    started, seen, steps, mean = time.time(), 0, 0, None
    model.train()
    while seen < schedule.tokens:
        batch = next(stream)
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate_at(seen / schedule.tokens)
        loss = loss_of(model, batch, frozen_layers)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, schedule.clip)
        optimiser.step()
        seen += batch[0].numel()
        steps += 1
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if report and steps % every == 0:
            report(steps, seen, mean, time.time() - started)
    return dict(tokens=seen, steps=steps, seconds=round(time.time() - started, 1))
