# SPDX-License-Identifier: Apache-2.0
"""The one command that makes the demo: `python3 -m training.run --work DIR`.

Trains the base, then for every domain the expert and the full fine-tuning it
is compared with, scores all of them on the held-out questions and assembles
`models/demo`.  Finished parts are kept: run it again to go on after a stop.
"""

import argparse
import json
import os

import torch

from . import (bundles, card, checkpoint, evaluate, questions, settings, train_base,
               train_expert, train_full)
from .tasks import DOMAINS, EXPERTS


def once(folder, make, *arguments):
    """Calls `make(*arguments)` unless the folder is already complete."""
    if not os.path.exists(f"{folder}/training.json"):
        make(*arguments)


def train_all(recipe, work):
    """The base, and an expert and a full fine-tuning of every domain."""
    base = f"{work}/base"
    once(base, train_base.train, recipe, base)
    for name in EXPERTS:
        for kind, module in (("experts", train_expert), ("full", train_full)):
            folder = f"{work}/{kind}/{name}"
            once(folder, module.train, recipe, base, name, folder)


def score_one(folder, eval_folder, domains):
    """A model's scores on several question files, kept next to the model."""
    path = f"{folder}/scores.json"
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    model, words = checkpoint.load(folder)
    scores = {domain: evaluate.score(
        model, words, questions.read(f"{eval_folder}/{domain}.jsonl"))
        for domain in domains}
    print(folder, {name: s["percent"] for name, s in scores.items()}, flush=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(scores, file)
    return scores


def score_all(work, eval_folder):
    """The table of scores: base, expert and full of every domain."""
    base = score_one(f"{work}/base", eval_folder, list(DOMAINS))
    table = {"base": base, "experts": {}, "full": {}}
    for kind in ("experts", "full"):
        for name in EXPERTS:
            table[kind][name] = score_one(f"{work}/{kind}/{name}", eval_folder,
                                          [name, "general"])
    return table


def facts(work):
    """Sizes, lengths and durations of the trainings."""
    folders = ["base"] + [f"{kind}/{name}" for kind in ("experts", "full")
                          for name in EXPERTS]
    out = {}
    for folder in folders:
        with open(f"{work}/{folder}/training.json", encoding="utf-8") as file:
            out[folder] = json.load(file)
    return out


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True, help="checkpoints and logs")
    parser.add_argument("--demo", default="models/demo")
    parser.add_argument("--ccoe", default="ccoe", help="the ccoe command")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0,
                        help="share of the full length, for a trial")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main():
    """Runs the whole recipe."""
    given = arguments()
    torch.set_num_threads(given.threads)
    recipe = settings.Settings(seed=given.seed, scale=given.scale)
    questions.write(f"{given.demo}/eval", settings.EVAL_QUESTIONS)
    train_all(recipe, given.work)
    table = score_all(given.work, f"{given.demo}/eval")
    table["training"] = facts(given.work)
    with open(f"{given.demo}/eval/scores.json", "w", encoding="utf-8") as file:
        json.dump(table, file, indent=1)
        file.write("\n")
    bundles.assemble(given.work, given.demo, given.ccoe)
    card.write(given.demo)


if __name__ == "__main__":
    main()
