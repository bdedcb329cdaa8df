# SPDX-License-Identifier: Apache-2.0
"""The question generators, one module a domain; Python's library only."""

from . import code, general, law, math_tasks, medical, sql
from .common import Example, Scene, split_of

EXPERTS = ("code", "math", "law", "sql", "medical")
DOMAINS = {module.DOMAIN.name: module.DOMAIN
           for module in (code, math_tasks, law, sql, medical, general)}

__all__ = ["DOMAINS", "EXPERTS", "Example", "Scene",
           "split_of"]
