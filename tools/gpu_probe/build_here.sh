#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles kernels again on a machine that has nvcc and a C++ compiler and nothing else, to try a change where the GPU is.
#
#   build_here.sh FILE.cu...          object code of each, for the GPU that is here; registers and local memory of its kernels
#   build_here.sh --run               the matrix products with kernel_shim.cu as a program, which runs: rates of what was changed here
#   build_here.sh --list              the kernels' files
#
# ARCH=90a names the architecture (default: that of nvidia-smi, else 90). Works in the tree and in the folder that `gpu_check.sh --pack`
# made: a kernel's file and the headers it includes are C++ of this tree alone.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here
while [ "$root" != / ] && [ ! -d "$root/kernels/cuda" ]; do root=$(dirname "$root"); done
[ -d "$root/kernels/cuda" ] || { echo "build_here: no kernels/cuda above $here" >&2; exit 2; }

case ${1:-} in
  "" | -h | --help) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  --list) (cd "$root" && ls kernels/cuda/*.cu tools/gpu_probe/*.cu); exit 0 ;;
esac

nvcc=$(PATH="$PATH:${CUDA_HOME:-/usr/local/cuda}/bin" command -v nvcc) || { echo "build_here: no nvcc here" >&2; exit 3; }
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .)
arch=${ARCH:-${capability:-90}}
out=${OUT:-$(mktemp -d)}
# Those of bazel/cuda_library.bzl and kernels/cuda/BUILD.
flags=(-I "$root" -std=c++20 -O3 -lineinfo --expt-relaxed-constexpr -fmad=false "-gencode=arch=compute_$arch,code=sm_$arch")
if [ "${1:-}" = --run ]; then
  (cd "$root" && "$nvcc" "${flags[@]}" tools/gpu_probe/kernel_shim.cu kernels/cuda/matmul_tile.cu kernels/cuda/matmul_skinny.cu -o "$out/kernel_shim") || exit 1
  echo "built $out/kernel_shim (sm_$arch)" >&2
  exec "$out/kernel_shim"
fi
failed=0
for file in "$@"; do
  path=$file
  [ -e "$path" ] || path=$root/$file
  object=$out/$(basename "${file%.cu}").o
  if "$nvcc" -c "$path" -o "$object" "${flags[@]}" -Xptxas=-v 2>"$object.log"; then
    echo "$file -> $object (sm_$arch)"
    sed -n 's/^ptxas info *: *Function properties for \(.*\)/\1/p; s/^ptxas info *: *\(Used .*\)/    \1/p; s/^ *\([1-9][0-9]* bytes stack frame.*\)/    \1/p' "$object.log" |
      { command -v c++filt >/dev/null && c++filt || cat; }
  else
    cat "$object.log" >&2
    failed=1
  fi
done
exit $failed
