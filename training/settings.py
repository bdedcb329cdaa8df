# SPDX-License-Identifier: Apache-2.0
"""The demo's numbers: sizes, split, seeds and lengths of training."""

from dataclasses import dataclass, field, replace

from .optimise import Schedule

LAYERS = 8
FIRST_EXPERT_LAYER = 6  # an expert is layers [6, 8), a quarter
BATCH_TOKENS = 1024
PROMPT_WEIGHT = 0.02    # of the question's tokens, in the base's training only
VOCABULARY = 1024
TOKENIZER_TEXTS = 12000
EVAL_QUESTIONS = 600


# Every domain's share of the base's mixture.
SHARES = dict(code=0.16, math=0.16, law=0.21, sql=0.11, medical=0.21, general=0.15)


@dataclass(frozen=True)
class Settings:
    """One recipe; `scale` shortens every training for a quick trial."""

    seed: int = 1
    scale: float = 1.0
    base: Schedule = field(default=Schedule(tokens=6_000_000, rate=2e-3))
    tuned: Schedule = field(default=Schedule(tokens=400_000, rate=1e-3))

    def scaled(self, schedule):
        """A schedule at this scale."""
        return replace(schedule, tokens=int(schedule.tokens * self.scale))
