#!/usr/bin/env bash
# Installs what is missing, builds everything and runs every test. Usage: ./test.sh [bazel test targets; default: all]
set -uo pipefail
cd "$(dirname "$0")"
tools/install_packages.sh || exit 1

targets=("$@")
[ ${#targets[@]} -eq 0 ] && targets=(//...)
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

echo "== $(began): building and testing ${targets[*]} (from nothing some 25 minutes on two cores, else what changed) ..."
bazel test --keep_going --test_summary=short "${progress[@]}" "${targets[@]}" 2>&1 | tee "$log"
bazel_status=${PIPESTATUS[0]}
passed=$((passed + $(grep -cE '^//.* PASSED( |$)' "$log")))
failed=$((failed + $(grep -cE '^//.* (FAILED|TIMEOUT|NO STATUS|FAILED TO BUILD)( |$)' "$log")))
# 4: the targets hold no test. Anything else that counted no failure (a build that broke) is one.
if [ "$bazel_status" -ne 0 ] && [ "$bazel_status" -ne 4 ] && [ "$failed" -eq 0 ]; then failed=1; fi

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
  check "every source has a test of its own" /usr/bin/python3 tests/mirror_test.py
  check "locks are held where fields say so (clang)" tools/check_locks.sh
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
