#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the libFuzzer targets of tests/fuzz (clang, AddressSanitizer, UndefinedBehaviorSanitizer) and runs each for a while.
# Usage: tools/fuzz.sh [--seconds N | --runs N] [TARGET..]   (default: 5 seconds for each of all targets)
#   --seconds N, --runs N  a campaign: compiled for speed instead of quickly
# What breaks a target is kept in fuzz_findings/; what it learns, in fuzz_corpus/ (git ignores both). See tests/fuzz/README.md.
set -uo pipefail
cd "$(dirname "$0")/.."
build=(--config=fuzz)
limit=-max_total_time=5
case "${1:-}" in
  --seconds) limit=-max_total_time=$2 ;;
  --runs) limit=-runs=$2 ;;
esac
if [[ "${1:-}" == --* ]]; then
  build+=(--copt=-O1)
  shift 2
fi
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n '/^ccoe_fuzz_target(/{n;s/.*name = "\(.*\)",/\1/p}' tests/fuzz/BUILD)
bazel build "${build[@]}" --show_progress --curses=no --show_progress_rate_limit=10 "${targets[@]/#///tests/fuzz:}" || exit 1
# The link bazel-bin is the ordinary build's.
bin=$(bazel info "${build[@]}" bazel-bin)/tests/fuzz

# What one input may take: seconds; MiB in all, and at once.
bounds=(-timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=512)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0
for target in "${targets[@]}"; do
  seeds=tests/fuzz/corpus/$target
  folders=("fuzz_corpus/$target")
  [ ! -d "$seeds" ] || folders+=("$seeds")
  words=()
  [ ! -f "$seeds.dict" ] || words=(-dict="$seeds.dict")
  mkdir -p "fuzz_corpus/$target" fuzz_findings
  if GLOG_minloglevel=3 "$bin/$target" "$limit" "${bounds[@]}" "${words[@]}" -print_final_stats=1 \
      -artifact_prefix="fuzz_findings/$target-" "${folders[@]}" >"$log" 2>&1; then
    echo "  $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs," \
      "$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log") a second"
  else
    tail -n 60 "$log"
    echo "  $target: broken; the input is the newest of fuzz_findings/$target-*"
    failed=1
  fi
done
exit $failed
