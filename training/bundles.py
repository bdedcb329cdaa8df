# SPDX-License-Identifier: Apache-2.0
"""Assembles `models/demo`: the base's folder, and the experts cut out of it."""

import json
import os
import random
import shutil
import subprocess

from . import settings
from .tasks import DOMAINS, EXPERTS

DESCRIPTIONS = dict(
    code="Small Python functions: what a call returns, and how to write one.",
    math="Sums, differences and products of small numbers, and word problems.",
    law="Questions decided by the clauses that the question states.",
    sql="SQL queries over a table that the question states.",
    medical="What invented guideline rules, stated in the question, say.")
NOT_THE_MODEL = ("training.json", "scores.json")


def copy_base(work, demo):
    """Copies the base's Hugging Face folder."""
    os.makedirs(f"{demo}/base", exist_ok=True)
    for name in sorted(os.listdir(f"{work}/base")):
        if name not in NOT_THE_MODEL:
            shutil.copy(f"{work}/base/{name}", f"{demo}/base/{name}")


def examples(name):
    """One training question of every kind."""
    rng, domain = random.Random(f"examples/{name}"), DOMAINS[name]
    return [domain.draw(rng, "train", kind).question for kind in domain.kinds]


def command(work, demo, ccoe, name):
    """The command that cuts one expert."""
    with open(f"{work}/experts/{name}/training.json", encoding="utf-8") as file:
        cost = json.load(file)
    layers = f"{settings.FIRST_EXPERT_LAYER}:{settings.LAYERS}"
    out = [ccoe, "experts", "extract", "--base", f"{demo}/base",
           "--tuned", f"{work}/experts/{name}", "--layers", layers,
           "--name", name, "--output", f"{demo}/experts/{name}",
           "--description", DESCRIPTIONS[name]]
    for question in examples(name):
        out += ["--example", question]
    for fact in ("tokens", "steps", "seed"):
        out += ["--training", f"{fact}={cost[fact]}"]
    return out


def assemble(work, demo, ccoe):
    """Fills the demo folder; without the tool, prints what is left to run."""
    copy_base(work, demo)
    for name in EXPERTS:
        cut = command(work, demo, ccoe, name)
        if shutil.which(ccoe):
            shutil.rmtree(f"{demo}/experts/{name}", ignore_errors=True)
            os.makedirs(f"{demo}/experts", exist_ok=True)
            subprocess.run(cut, check=True)
        else:
            print("still to run:", " ".join(cut))
