#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles the sources that annotate locks with clang's -Wthread-safety (syntax only): reading a guarded field without its
# lock is an error. Needs the generated protos: builds them first.
set -euo pipefail
cd "$(dirname "$0")/.."
bazel build //proto:all
bin=$(bazel info bazel-bin)
mapfile -t headers < <(git ls-files -co --exclude-standard 'runtime/**.h' 'services/**.h' 'kernels/**.h' | xargs grep -lE 'ABSL_(GUARDED_BY|LOCKS_EXCLUDED|EXCLUSIVE_LOCKS_REQUIRED)' || true)
mapfile -t sources < <(git ls-files -co --exclude-standard 'runtime/**.cc' 'services/**.cc' 'kernels/**.cc' | xargs grep -lE 'ABSL_(GUARDED_BY|LOCKS_EXCLUDED|EXCLUSIVE_LOCKS_REQUIRED)' || true)
for header in "${headers[@]}"; do
  [ -f "${header%.h}.cc" ] && sources+=("${header%.h}.cc")
done
# CUDA code is checked where the toolkit's headers are.
toolkit=${CUDA_HOME:-/usr/local/cuda}/include
without_cuda() { [ -f "$toolkit/nccl.h" ] && cat || grep -vE '^(kernels/cuda|runtime/exchange/nccl)/'; }
printf '%s\n' "${sources[@]}" | sort -u | without_cuda |
  xargs -P "$(nproc)" -I{} clang++ -std=c++20 -fsyntax-only -w -Wthread-safety -Werror=thread-safety -I. -isystem "$bin/proto" -isystem "$toolkit" {}
