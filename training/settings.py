"""The demo's numbers: sizes, split, seeds and lengths of training."""

from dataclasses import dataclass, field

from .optimise import Schedule

LAYERS = 8
FIRST_EXPERT_LAYER = 6  # an expert is layers [6, 8), a quarter
BATCH_TOKENS = 1024
PROMPT_WEIGHT = 0.05    # of the question's tokens, in the base's training only
VOCABULARY = 1024
TOKENIZER_TEXTS = 12000
EVAL_QUESTIONS = 600


@dataclass(frozen=True)
class Settings:
    """One recipe; `scale` shortens every training for a quick trial."""

    seed: int = 1
    scale: float = 1.0
    base: Schedule = field(default=Schedule(tokens=4_500_000, rate=2e-3))
    tuned: Schedule = field(default=Schedule(tokens=700_000, rate=1e-3))

    def schedule(self, which):
        """A schedule ("base" or "tuned") at this scale."""
        plan = getattr(self, which)
        return Schedule(tokens=int(plan.tokens * self.scale), rate=plan.rate)
