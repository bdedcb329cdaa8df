#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a unittest module with Debian's Python from the runfiles' root.
exec env PYTHONPATH="$PWD" PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m unittest -v "$1"
