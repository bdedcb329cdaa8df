#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Names sources without an SPDX line, and the C++ and CUDA sources and protos that clang-format would change (.clang-format; mend:
# clang-format -i FILE). Tables and diagrams in comments stand between "clang-format off" and "on".
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files -z -co --exclude-standard '*.h' '*.cc' '*.cu' '*.cuh' '*.proto' | xargs -0 -P "$(nproc)" -n 40 clang-format --dry-run -Werror

without=$(git ls-files -co --exclude-standard '*.h' '*.cc' '*.cu' '*.cuh' '*.proto' '*.py' '*.sh' '*.bzl' | while read -r file; do
  [ -s "$file" ] && ! head -n 3 "$file" | grep -q '^\(//\|#\) SPDX-License-Identifier: ' && echo "$file"
done || true)
[ -z "$without" ] || { echo "no SPDX-License-Identifier within the first three lines of:"; echo "$without"; exit 1; }
