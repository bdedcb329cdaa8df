#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds everything and runs every test. Usage: ./test.sh [--sanitize] [bazel test targets; default: all]
#   --sanitize  instead: the unit tests of runtime and services under AddressSanitizer with UndefinedBehaviorSanitizer, then under
#               ThreadSanitizer; each compiles all of them anew
set -uo pipefail
cd "$(dirname "$0")"
tools/install_packages.sh || exit 1

sanitize=false
[ "${1:-}" = --sanitize ] && { sanitize=true; shift; }
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  targets=(//...)
  [ "$sanitize" = true ] && targets=(//tests/runtime/... //tests/services/...)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Lines that say how far it is, also where they go to a file.
progress=(--show_progress --curses=no --show_progress_rate_limit=10)
began() { printf '%dm%02ds' $((SECONDS / 60)) $((SECONDS % 60)); }

# The whole tree without Bazel: checks of the sources themselves.
passed=0
failed=0
check() {
  echo "== $(began): $1 ..."
  if "${@:2}"; then
    passed=$((passed + 1))
    echo "PASSED  $1"
  else
    failed=$((failed + 1))
    echo "FAILED  $1"
  fi
}

# Counts what passed and failed. bazel_test WORDS..
bazel_test() {
  bazel test --keep_going --test_summary=short "${progress[@]}" "$@" 2>&1 | tee "$log"
  local status=${PIPESTATUS[0]} failures
  failures=$(grep -cE '^//.* (FAILED|TIMEOUT|NO STATUS|FAILED TO BUILD)( |$)' "$log")
  # 4: the targets hold no test. Anything else that counted no failure (a build that broke) is one.
  if [ "$status" -ne 0 ] && [ "$status" -ne 4 ] && [ "$failures" -eq 0 ]; then failures=1; fi
  passed=$((passed + $(grep -cE '^//.* PASSED( |$)' "$log")))
  failed=$((failed + failures))
}

if [ "$sanitize" = true ]; then
  for sanitizer in asan tsan; do
    echo "== $(began): $sanitizer: building and testing ${targets[*]} ..."
    # Of a program that is ten times slower, tests tagged so assert too much of the clock.
    bazel_test --config="$sanitizer" --test_tag_filters=-"no_$sanitizer" "${targets[@]}"
  done
  echo "== $(began): done"
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
  exit
fi

echo "== $(began): building and testing ${targets[*]} (from nothing some 25 minutes on two cores, else what changed) ..."
bazel_test "${targets[@]}"

# Compiles and links what --config=cuda adds and runs its tests that need no GPU. Last comes the ordinary binary again.
check_cuda() {
  local targets=(//services/cli:ccoe) folder
  for folder in kernels/cuda runtime/exchange/nccl tools/gpu_probe tests/kernels/cuda tests/runtime/exchange/nccl tests/tools/gpu_probe; do
    [ -f "$folder/BUILD" ] && targets+=("//$folder/...")
  done
  bazel build --config=cuda "${progress[@]}" "${targets[@]}" || return 1
  bazel test --config=cuda "${progress[@]}" --test_tag_filters=-gpu "${targets[@]:1}"
  local status=$?
  tests/tools/empty_root_test.sh
  local packed=$?
  bazel build //services/cli:ccoe || return 1
  # 4: none of them can run without a GPU. 77: no empty root can be had here.
  { [ "$status" -eq 0 ] || [ "$status" -eq 4 ]; } && { [ "$packed" -eq 0 ] || [ "$packed" -eq 77 ]; }
}

if [ $# -eq 0 ]; then
  check "sources are formatted" tools/check_format.sh
  check "folders depend one way" /usr/bin/python3 tools/check_structure.py
  check "proto fields say what they are" /usr/bin/python3 tools/check_protos.py
  check "every source has a test of its own" /usr/bin/python3 tests/mirror_test.py
  check "locks are held where fields say so (clang)" tools/check_locks.sh
  check "what comes from outside is taken or refused (fuzzers, 5 seconds each)" tools/fuzz.sh
  check "the training tasks' answers are right" /usr/bin/python3 -m unittest discover -q -s tests/training
  if grep -qs '^CUDA_FOUND = True' "$(bazel info output_base)/external/local_cuda/defs.bzl"; then
    check "CUDA code compiles and links" check_cuda
  else
    echo "SKIPPED CUDA code: no toolkit with nvcc and the headers of cuBLASLt and NCCL in ${CUDA_HOME:-/usr/local/cuda}"
  fi
fi

echo
echo "== $(began): done"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
