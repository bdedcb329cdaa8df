#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks a machine with one GPU.
#
#   tools/gpu_check.sh PROFILE             smoke, speed or cluster, in two or three minutes: gpu_check/profiles.sh
#   tools/gpu_check.sh PROFILE --pack DIR  what that needs on a machine which has nothing of ours, at most 30 MB; there: DIR/tools/gpu_check.sh PROFILE
#
# And in parts, from an unpacked //deploy:bundle (or the tree, after a build), in at most nine minutes:
#
#   tools/gpu_check.sh              all parts; tools/gpu_check.sh b d: these
#   DEVICE=cpu tools/gpu_check.sh   the parts that mean something on a CPU (b, d, e)
#
# Writes table.md (a line a part) and a log a part to $OUT (default: ./gpu_check_results). Exit code: 0 every part passed,
# 1 one failed, 3 none failed and one could not run. A part that cannot run says why and is never counted as passed.
#
# Also from the environment: DEVICE (cuda, cuda:N, cpu), CCOE (the binary), GOLDEN (the golden models), WORK (scratch; default: made in
# /dev/shm where 40 GB are free, else in the temporary folder), SECONDS_IN_ALL (540), MODELS (golden models of part b), BENCH_FLAGS
# (the shape of part e), EXCHANGES (grpc: part d leaves NCCL out), SANITIZER_FILTER (tests of part g; default: all but those of determinism, which are many and the same kernels).
set -uo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$tools")
export DEVICE=${DEVICE:-cuda}
readonly NOT_RUN=77
readonly MOST_PACKED=30000000  # bytes

first_of() {  # the first path that exists
  local path
  for path in "$@"; do [ -e "$path" ] && { echo "$path"; return; }; done
  echo "$1"
}

export CCOE=${CCOE:-$(first_of "$root/bin/ccoe" "$root/bazel-bin/services/cli/ccoe")}
export GOLDEN=${GOLDEN:-$root/tests/golden/models}
ops_test=${OPS_TEST:-$(first_of "$root/bin/cuda_ops_test" "$root/bazel-bin/tests/kernels/cuda/cuda_ops_test")}
nccl_test=${NCCL_TEST:-$(first_of "$root/bin/nccl_link_test" "$root/bazel-bin/tests/runtime/exchange/nccl/nccl_link_test")}

result() { echo "RESULT: $1"; }

cannot() {
  result "$1"
  return $NOT_RUN
}

gtest() {  # gtest NAME BINARY [PROPERTY=MOST]: runs a GoogleTest from the root, where it finds its files, and reads its report
  local report=$WORK/$1.json
  (cd "$root" && "$2" "--gtest_output=json:$report")
  local code=$?
  [ -s "$report" ] || { result "$2 ended with $code and wrote no report"; return 1; }
  python3 "$tools/gpu_check/gtest_result.py" "$report" "${@:3}"
}

needs_device() {  # the device that was asked for is there
  [ "$DEVICE" = cpu ] || nvidia-smi -L 2>/dev/null | grep -q GPU || cannot "nvidia-smi lists no GPU here"
}

needs_gpu() {  # needs_gpu BINARY...: a GPU, and tests for it
  [ "$DEVICE" != cpu ] || { cannot "needs a GPU; DEVICE=cpu"; return; }
  needs_device || return
  local binary
  for binary in "$@"; do
    [ -x "$binary" ] || { cannot "no ${binary#"$root"/}: built without --config=cuda"; return; }
  done
}

part_a() { needs_gpu "$ops_test" || return; gtest ops "$ops_test"; }

part_b() { needs_device && python3 "$tools/gpu_check/fixtures.py"; }

part_c() {
  needs_gpu "$nccl_test" || return
  # Two processes share the GPU here: what that asks for is docs/gpu.md's.
  NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-lo} NCCL_DEBUG=${NCCL_DEBUG:-WARN} gtest nccl "$nccl_test" aborted_ms=1000
}

part_d() { needs_device && python3 "$tools/gpu_check/cluster.py"; }

part_e() { needs_device && python3 "$tools/gpu_check/bench.py"; }

part_f() { needs_gpu && python3 "$tools/gpu_check/hugging_face.py"; }

part_g() {
  needs_gpu "$ops_test" || return
  local sanitizer
  sanitizer=$(PATH="$PATH:${CUDA_HOME:-/usr/local/cuda}/bin" command -v compute-sanitizer) || { cannot "no compute-sanitizer here"; return; }
  local tool
  for tool in memcheck racecheck; do
    (cd "$root" && "$sanitizer" --tool "$tool" --error-exitcode 9 "$ops_test" "--gtest_filter=${SANITIZER_FILTER:--*Determinism*}") || {
      result "$tool: exit code $?"
      return 1
    }
  done
  result "memcheck and racecheck found nothing"
}

declare -A titles=(
  [a]="Ops suite, CPU against CUDA"
  [b]="golden models through score and generate"
  [c]="exchange suite over NCCL, kill -9"
  [d]="whole cluster, answers of the CPU"
  [e]="bench against the roofline"
  [f]="Hugging Face transformers"
  [g]="compute-sanitizer"
)
# Seconds at most; what all take together is bounded by SECONDS_IN_ALL.
declare -A limits=([a]=100 [b]=110 [c]=120 [d]=120 [e]=110 [f]=120 [g]=60)

source "$tools/gpu_check/profiles.sh"

# Where the bundle carries no CUDA libraries of its own: the toolkit's, or those of Python packages.
find_cuda_libraries() {
  [ "$DEVICE" = cpu ] && return
  local folder
  for folder in "$root/lib" "${CUDA_HOME:-/usr/local/cuda}/lib64"; do
    compgen -G "$folder/libcublasLt.so.*" >/dev/null && compgen -G "$folder/libnccl.so.*" >/dev/null && return
  done
  for folder in $(python3 -c 'import site, glob; print(*[f for p in site.getsitepackages() for f in glob.glob(p + "/nvidia/*/lib")])' 2>/dev/null); do
    export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
  done
}

make_work_folder() {
  [ -n "${WORK:-}" ] && { mkdir -p "$WORK"; return; }
  local parent=${TMPDIR:-/tmp}
  local free
  free=$(df --output=avail -B 1G /dev/shm 2>/dev/null | tail -1)
  [ "${free:-0}" -ge 40 ] && parent=/dev/shm
  WORK=$(mktemp -d "$parent/gpu_check.XXXXXX") || exit 1
  trap 'rm -rf "$WORK"' EXIT
}

describe() {
  echo "# gpu_check"
  echo
  echo "* $(date -u +%FT%TZ), \`${DEVICE:+DEVICE=$DEVICE }tools/gpu_check.sh $*\`"
  echo "* device: $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no nvidia-smi here")"
  echo "* CPU: $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
  echo "* ccoe: $(sha256sum "$CCOE" | cut -c1-16)"
  echo
  echo "| part | what | result | seconds | |"
  echo "|---|---|---|---|---|"
}

main() {
  case ${1:-} in
    smoke | speed | cluster)
      [ $# -eq 1 ] && { run_profile "$1"; exit; }
      if [ $# -eq 3 ] && [ "$2" = --pack ]; then
        # Without this an unset variable packs into /, and another flag into a folder of its name.
        case $3 in "" | -*) echo "gpu_check: --pack expected a folder, found \"$3\"" >&2; exit 2 ;; esac
        pack_profile "$1" "$3"
        exit
      fi
      echo "gpu_check: expected PROFILE or PROFILE --pack DIR, found $*" >&2
      exit 2
      ;;
  esac
  local parts=("$@")
  [ ${#parts[@]} -gt 0 ] || parts=(a b c d e f g)
  local part
  for part in "${parts[@]}"; do
    [ -n "${titles[$part]:-}" ] || { echo "gpu_check: profiles are smoke, speed and cluster, parts a to g; found \"$part\"" >&2; exit 2; }
  done
  [ -x "$CCOE" ] || { echo "gpu_check: no ccoe at $CCOE (CCOE=... says where)" >&2; exit 2; }
  make_work_folder
  export WORK
  find_cuda_libraries
  local out=${OUT:-gpu_check_results}
  mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
  describe "$@" | tee "$out/table.md"

  local failed=0 not_run=0 deadline=$((SECONDS + ${SECONDS_IN_ALL:-540}))
  for part in "${parts[@]}"; do
    local begin=$SECONDS limit=${limits[$part]} code word text
    [ "$limit" -le $((deadline - SECONDS)) ] || limit=$((deadline - SECONDS))
    if [ "$limit" -le 0 ]; then
      code=$NOT_RUN
      echo "RESULT: no time left" >"$out/part_$part.log"
    else
      GPU_CHECK_PART=$part timeout --kill-after=10 "$limit" bash "${BASH_SOURCE[0]}" >"$out/part_$part.log" 2>&1
      code=$?
    fi
    text=$(sed -n 's/^RESULT: //p' "$out/part_$part.log" | tail -1)
    case $code in
      0) word=passed ;;
      "$NOT_RUN") word="not run"; not_run=$((not_run + 1)) ;;
      124 | 137) word=FAILED; failed=$((failed + 1)); text="did not end within $limit s" ;;
      *) word=FAILED; failed=$((failed + 1)); text=${text:-exit code $code, see part_$part.log} ;;
    esac
    echo "| $part | ${titles[$part]} | $word | $((SECONDS - begin)) | ${text//|/,} |" | tee -a "$out/table.md"
  done
  [ "$failed" -eq 0 ] || exit 1
  [ "$not_run" -eq 0 ] || exit 3
}

if [ -n "${GPU_CHECK_PART:-}" ]; then
  "part_$GPU_CHECK_PART"
else
  main "$@"
fi
