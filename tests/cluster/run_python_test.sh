#!/usr/bin/env bash
# Runs a unittest module with Debian's Python from the runfiles' root.
exec env PYTHONPATH="$PWD" PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m unittest -v "$1"
