# SPDX-License-Identifier: Apache-2.0
"""Puts the repository's root on the module path; import it first."""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)
