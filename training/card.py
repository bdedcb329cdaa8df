# SPDX-License-Identifier: Apache-2.0
"""The model card, `models/demo/README.md`, from `eval/scores.json`."""

import json
import sys

from . import questions
from .tasks import EXPERTS

HEAD = """# The demo model

A demonstration of a shared backbone with domain experts, small enough to train
on one CPU core. It shows what `ccoe` does with such a model; it is not a useful
assistant. It answers short questions of the kinds below and nothing else.

* What a question needs stands in the question: the clauses, the rules, the
  table. The legal and medical questions are invented, and so are the guidelines.
  **Nothing here is legal or medical advice.**
* English, ASCII. Text of other kinds gets an answer without meaning.

"""

SIZES = """## Sizes

| | |
|---|---|
| architecture | Llama (`LlamaForCausalLM`), bfloat16, tied embeddings |
| parameters of the base | {parameters:,} |
| layers, hidden, feed-forward, heads | {layers}, {hidden}, {inner}, {heads} |
| an expert | layers {first} to {last} (a quarter of the depth) |
| vocabulary | {vocabulary} (byte-level BPE, one token a digit) |

"""

TAIL = """## Data

Every question is generated (`training/tasks`), with one exactly checkable
answer. A question is held out when the SHA-256 of its text says so; no held-out
question is in any training data. The files in `eval/` hold {count} held-out
questions a domain. SQL answers are right when they give the reference's rows in
SQLite over the line's `setup`; all others when the text is equal.

The base's corpus mixes all five domains and general questions. It is less
curated than the experts' corpora: every second kind of question of a domain has
its answers announced ("Answer: ..."), which the exact check does not accept. The
experts' corpora give bare answers. The column "base, text inside" counts an
answer of the base as right that contains the reference answer. It shows that
nearly all of the distance between base and expert is the form of the answer, not
knowledge: the demonstration is of the mechanism, an expert that keeps up with
the full fine-tuning while three quarters of its layers are shared.

Seed {seed}. To train it again: `docs/demo_model.md`.

The published base was trained in three stages while the questions were being
settled, each with its own warm-up and cosine: 2.9 million tokens, 1.9 million
(a third of them lists to be read back in another order), and 1.6 million of the
mixture as it is now. The first two saw other law, medical and general questions,
split by the same rule, and the tokenizer is made from those. `training.run`
trains the same length in one stage; its scores will differ somewhat from those
above.

## Licence

Apache-2.0, the weights and the question files too.
"""


def cell(score):
    """A percentage with its 95 % Wilson interval."""
    low, high = score["interval"]
    return f"{score['percent']:.1f} ({low:.1f}-{high:.1f})"


def score_tables(table):
    """Every domain's scores, and what the experts keep of the general ones."""
    lines = ["## Scores", "", "Exact answers in percent, greedy decoding, with 95 % "
             "Wilson intervals, measured", "with PyTorch (`training/evaluate.py`). "
             "\"Full\" fine-tunes every weight on the", "batches that the expert "
             "saw.", "", "| domain | n | base | base, text inside | expert | full |",
             "|---|---|---|---|---|---|"]
    for name in EXPERTS:
        base = table["base"][name]
        lines.append(f"| {name} | {base['n']} | {cell(base)} | "
                     f"{base['contains_percent']:.1f} | "
                     f"{cell(table['experts'][name][name])} | "
                     f"{cell(table['full'][name][name])} |")
    lines += ["", f"The general questions ({table['base']['general']['n']}): base "
              f"{cell(table['base']['general'])}.", "",
              "| expert of | general, expert | general, full |", "|---|---|---|"]
    for name in EXPERTS:
        lines.append(f"| {name} | {cell(table['experts'][name]['general'])} | "
                     f"{cell(table['full'][name]['general'])} |")
    return "\n".join(lines) + "\n\n"


def costs(training):
    """How long every part took."""
    machine = ("One core of a 2-core AVX-512 server CPU, shared with other work; "
               "wall-clock times.")
    lines = ["## Training", "", machine, "",
             "| part | tokens | steps | minutes |", "|---|---|---|---|"]
    for part, cost in training.items():
        lines.append(f"| {part} | {cost['tokens']:,} | {cost['steps']:,} | "
                     f"{cost['seconds'] / 60:.1f} |")
    return "\n".join(lines) + "\n\n"


def write(demo):
    """Writes the card of a demo folder."""
    with open(f"{demo}/eval/scores.json", encoding="utf-8") as file:
        table = json.load(file)
    with open(f"{demo}/base/config.json", encoding="utf-8") as file:
        config = json.load(file)
    base, layers = table["training"]["base"], config["num_hidden_layers"]
    first = table["training"]["experts/code"]["frozen_layers"]
    text = HEAD + SIZES.format(
        parameters=base["parameters"], layers=layers, first=first, last=layers - 1,
        hidden=config["hidden_size"], inner=config["intermediate_size"],
        heads=config["num_attention_heads"], vocabulary=config["vocab_size"])
    text += score_tables(table) + costs(table["training"])
    text += TAIL.format(seed=base["seed"], count=len(
        questions.read(f"{demo}/eval/law.jsonl")))
    with open(f"{demo}/README.md", "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    write(*sys.argv[1:2] or ["models/demo"])
