#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs clang-tidy (Debian's clang-tidy) with the checks of .clang-tidy over sources of ours, by default all but CUDA's: some 40 minutes on
# two cores, so no part of test.sh. Needs the generated protos: builds them first. Usage: tools/check_tidy.sh [SOURCE..]
set -euo pipefail
cd "$(dirname "$0")/.."
command -v clang-tidy > /dev/null || { echo "clang-tidy is missing: apt-get install clang-tidy" >&2; exit 1; }
bazel build //proto:all
bin=$(bazel info bazel-bin)
sources=("$@")
[ ${#sources[@]} -gt 0 ] || mapfile -t sources < <(git ls-files 'kernels/*.cc' 'runtime/*.cc' 'services/*.cc' | grep -vE '^(kernels/cuda|runtime/exchange/nccl)/')
found=$(mktemp)
trap 'rm -f "$found"' EXIT
printf '%s\n' "${sources[@]}" |
  xargs -P "$(nproc)" -n 4 clang-tidy --quiet -- -std=c++20 -I. -isystem "$bin/proto" -isystem "$bin" 2> /dev/null | tee "$found"
! grep -qE '(warning|error):' "$found"
