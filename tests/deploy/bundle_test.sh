#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The bundle is self-contained: unpacked elsewhere, with an empty environment and a LD_LIBRARY_PATH that leads nowhere, its binary uses
# its own libraries and glibc's alone, and gpu_check runs from it (on the CPU).
set -euo pipefail
cd "$TEST_TMPDIR"
tar -xf "$TEST_SRCDIR/$TEST_WORKSPACE/deploy/ccoe.tar"
root=$TEST_TMPDIR/ccoe
alone=(env -i PATH=/usr/bin:/bin HOME=/nonexistent LD_LIBRARY_PATH=/nonexistent)

fail() {
  echo "$1" >&2
  exit 1
}

for file in "$root"/bin/* "$root"/lib/*; do
  # A library finds the others through the binary that loads it, so its own folder stands in for that here.
  libraries=/nonexistent
  [[ $file == */lib/* ]] && libraries=$root/lib
  "${alone[@]}" LD_LIBRARY_PATH="$libraries" ldd "$file" | awk '$2 == "=>" { print $1, $3 }' | while read -r name path; do
    case $path in
      "$root"/*) ;;
      *)
        case $name in
          libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libutil.so.* | libresolv.so.* | libmvec.so.* | ld-linux*) ;;
          *) fail "${file#"$root"/} takes $name from $path" ;;
        esac
        ;;
    esac
  done
done
[ -e "$root/lib/libgrpc++.so.1.51" ] || fail "no gRPC in lib/"
grep -q '^needs: .*GLIBC 2\.' "$root/CONTENTS" || fail "CONTENTS does not say which glibc is needed"

cd "$TEST_TMPDIR"
echo '{"id": "a", "token_ids": [1, 2, 3]}' >requests.jsonl
"${alone[@]}" "$root/bin/ccoe" generate --offline --model "$root/tests/golden/models/llama-gqa" --requests requests.jsonl \
  --temperature 0 --max-tokens 4 --ignore-eos --json | grep -q '"token_ids":\[' || fail "the binary gave no tokens"

code=0
"${alone[@]}" DEVICE=cpu MODELS="llama-gqa mixtral-8x2" OUT="$TEST_TMPDIR/results" "$root/tools/gpu_check.sh" a b c d e g || code=$?
[ "$code" -eq 3 ] || fail "gpu_check on a CPU: exit code $code, expected 3 (none failed, some could not run)"
for part in b d e; do
  grep -qE "^\| $part \|.* \| passed \|" results/table.md || fail "part $part did not pass: $(cat "results/part_$part.log")"
done
for part in a c g; do
  grep -qE "^\| $part \|.* \| not run \|.*needs a GPU" results/table.md || fail "part $part is not marked as not run"
done
