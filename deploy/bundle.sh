#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the tar of //deploy:bundle. Usage: deploy/bundle.sh OUTPUT.tar CUDA_LIBRARIES BINARY... -- FILE...
# Binaries go to bin/, the shared libraries they need to lib/ (with those they open by name: OpenBLAS, and from the folder CUDA_LIBRARIES
# cuBLASLt and NCCL; none: a build without CUDA), files to their place in the tree. What belongs to the machine stays out: glibc and the NVIDIA driver.
set -euo pipefail
output=$1
cuda=$2
shift 2
binaries=()
while [ $# -gt 0 ] && [ "$1" != "--" ]; do binaries+=("$1"); shift; done
shift
files=("$@")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/ccoe
mkdir -p "$root/bin" "$root/lib"

of_the_machine() {  # glibc's own libraries and the driver's
  case $1 in
    linux-vdso.so.* | ld-linux*.so.* | libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libutil.so.* | \
      libresolv.so.* | libanl.so.* | libnsl.so.* | libmvec.so.* | libcuda.so.* | libnvidia-*) return 0 ;;
    *) return 1 ;;
  esac
}

take_libraries_of() {
  local name path
  while read -r name path; do
    of_the_machine "$name" && continue
    if [ "$path" = "not" ]; then
      echo "bundle: $1 needs $name, which ldd does not find" >&2
      exit 1
    fi
    [ -e "$root/lib/$name" ] || cp -L "$path" "$root/lib/$name"
  done < <(ldd "$1" | awk '$2 == "=>" { print $1, $3 }')
}

for binary in "${binaries[@]}"; do
  cp -L "$binary" "$root/bin/"
  take_libraries_of "$binary"
done
for openblas in /usr/lib/x86_64-linux-gnu/libopenblas.so.0 /usr/lib64/libopenblas.so.0; do
  [ -e "$openblas" ] && [ ! -e "$root/lib/libopenblas.so.0" ] || continue
  cp -L "$openblas" "$root/lib/libopenblas.so.0"
  take_libraries_of "$openblas"
done
if [ "$cuda" != none ]; then
  for library in "$cuda"/libcublasLt.so.[0-9]* "$cuda"/libnccl.so.2; do
    name=$(basename "$library")
    [ -e "$library" ] && [[ $name =~ \.so\.[0-9]+$ ]] || continue  # by its soname, not every file of that version
    cp -L "$library" "$root/lib/$name"
    take_libraries_of "$library"
  done
fi
for file in "${files[@]}"; do
  mkdir -p "$root/$(dirname "$file")"
  cp -L "$file" "$root/$file"
done
chmod -R u+w,a+rX "$root"

# The newest glibc that anything asks for is what the machine must have.
needed=$(find "$root/bin" "$root/lib" -type f -exec readelf -V {} + 2>/dev/null | grep -oE 'GLIBC_2\.[0-9]+' | sort -uV | tail -1)
{
  echo "needs: Linux x86-64, ${needed/_/ } or newer; for CUDA an NVIDIA driver"
  (cd "$root" && find bin lib -type f -printf '%s %p\n' | LC_ALL=C sort -k2)
} >"$root/CONTENTS"
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$work" -cf "$output" ccoe
