#!/usr/bin/env bash
# Names the C++ and CUDA sources and protos that clang-format would change (.clang-format; mend: clang-format -i FILE). Tables and diagrams in
# comments stand between "clang-format off" and "on".
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files -z -co --exclude-standard '*.h' '*.cc' '*.cu' '*.cuh' '*.proto' | xargs -0 -P "$(nproc)" -n 40 clang-format --dry-run -Werror
