#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the libFuzzer targets of tests/fuzz (clang, AddressSanitizer, UndefinedBehaviorSanitizer) and runs each for a while.
# Usage: tools/fuzz.sh [--seconds N | --runs N] [TARGET..]   (default: 5 seconds for each of all targets)
# What breaks a target is kept in fuzz_findings/; what it learns, in fuzz_corpus/ (both are ignored by git). See tests/fuzz/README.md.
set -uo pipefail
cd "$(dirname "$0")/.."
limit=-max_total_time=5
case "${1:-}" in
  --seconds) limit=-max_total_time=$2; shift 2 ;;
  --runs) limit=-runs=$2; shift 2 ;;
esac
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n '/^ccoe_fuzz_target(/{n;s/.*name = "\(.*\)",/\1/p}' tests/fuzz/BUILD)
bazel build --config=fuzz --show_progress --curses=no --show_progress_rate_limit=10 "${targets[@]/#///tests/fuzz:}" || exit 1
# Not bazel-bin: that link is the ordinary build's.
bin=$(bazel info --config=fuzz bazel-bin)/tests/fuzz

# Of one input: seconds, and MiB in all and at once.
bounds=(-timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=512)
status=0
for target in "${targets[@]}"; do
  log=$(mktemp)
  seeds=tests/fuzz/corpus/$target
  mkdir -p "fuzz_corpus/$target" fuzz_findings
  words=()
  [ ! -f "$seeds.dict" ] || words=(-dict="$seeds.dict")
  # An error of ours is printed with glog or not at all: what a fuzzer provokes would flood the log.
  if GLOG_minloglevel=3 "$bin/$target" "$limit" "${bounds[@]}" "${words[@]}" -print_final_stats=1 \
      -artifact_prefix="fuzz_findings/$target-" "fuzz_corpus/$target" "$seeds" >"$log" 2>&1; then
    echo "PASSED  $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs," \
      "$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log") a second"
  else
    tail -n 60 "$log"
    echo "FAILED  $target: see above; the input is in fuzz_findings/$target-*"
    status=1
  fi
  rm -f "$log"
done
exit $status
