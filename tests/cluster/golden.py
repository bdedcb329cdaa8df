# SPDX-License-Identifier: Apache-2.0
"""The golden CCoE model as a cluster's model folder: the backbone, and its five experts as bundles."""

import functools
import json
import os
import tempfile

from tests.cluster import ccoe_process

MODELS = "tests/golden/models"
EXPERTS = ("code", "math", "law", "sql", "medical")


def prompts(model):
    with open(f"{MODELS}/{model}/golden.json", encoding="utf-8") as file:
        return json.load(file)["prompts"]


@functools.lru_cache(maxsize=None)
def bundles():
    """A folder with a bundle of each expert, cut out of its full checkpoint."""
    folder = tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR"))
    for name in EXPERTS:
        code, _, error = ccoe_process.run(["experts", "extract", "--base", f"{MODELS}/ccoe/backbone", "--tuned",
                                           f"{MODELS}/ccoe/{name}", "--layers", "4:8", "--name", name, "--output", f"{folder}/{name}"])
        assert code == 0, error
    return folder


def up_flags(*more):
    return ["--model", f"{MODELS}/ccoe/backbone", "--experts", bundles(), *more]
