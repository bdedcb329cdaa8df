#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What gpu_check.sh packs starts in an empty Debian 12: no Bazel, gRPC or abseil in it. Usage, as root: tests/tools/empty_root_test.sh [ROOT]
# ROOT (default: ~/.cache/ccoe-empty-debian) is where the system is made, once: it is used again. After: bazel build --config=cuda //tools/gpu_probe:stripped
# //services/cli:ccoe. Exit code 77 where it cannot run: no debootstrap, no root, no mirror.
set -uo pipefail
shopt -s extglob
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

cannot() {
  echo "SKIPPED empty_root_test: $1"
  exit 77
}
fail() {
  echo "FAILED  empty_root_test: $1" >&2
  exit 1
}
command -v debootstrap >/dev/null || cannot "no debootstrap here"
[ "$(id -u)" -eq 0 ] || cannot "not root"

work=$(mktemp -d)
root=${1:-$HOME/.cache/ccoe-empty-debian}
clean_up() {
  mountpoint -q "$root/proc" && umount "$root/proc"
  rm -rf "$work" "$root/opt/smoke" "$root/opt/cluster"
}
trap clean_up EXIT

if [ ! -x "$root/usr/bin/python3" ]; then
  [ -d "$root/debootstrap" ] && rm -rf "$root"  # one that was left half made
  [ ! -e "$root" ] || cannot "$root is something else"
  timeout 600 debootstrap --variant=minbase --include=python3 bookworm "$root" >"$work/debootstrap.log" 2>&1 ||
    cannot "debootstrap: $(tail -1 "$work/debootstrap.log")"
fi
compgen -G "$root/usr/lib/x86_64-linux-gnu/lib@(grpc|absl|hwy)*" >/dev/null && fail "the root is not empty"
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc" || cannot "no /proc for the root"
in_root() { chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/root "$@"; }
in_root true || cannot "no chroot here"

rm -rf "$root/opt/smoke" "$root/opt/cluster"
for profile in smoke cluster; do
  tools/gpu_check.sh "$profile" --pack "$work/$profile" || fail "packing $profile"
  cp -r "$work/$profile" "$root/opt/" || fail "copying $profile"
done

text=$(in_root OUT=/tmp/smoke /opt/smoke/tools/gpu_check.sh smoke)
code=$?
if [ "$code" -ne 0 ] || ! grep -q 'compute capability' <<<"$text"; then
  [ "$code" -eq 3 ] && grep -q 'no CUDA device' <<<"$text" || fail "smoke: exit code $code: $text"
  grep -q 'NCCL: NCCL: libnccl.so.2 cannot be opened' <<<"$text" || fail "smoke does not say that NCCL is missing: $text"
fi
in_root DEVICE=cpu OUT=/tmp/cluster /opt/cluster/tools/gpu_check.sh cluster >"$work/cluster.log" 2>&1 ||
  fail "cluster on the CPU: $(cat "$work/cluster.log" "$root/tmp/cluster/cluster.log" 2>/dev/null | tail -20)"
# Built with CUDA, on a machine without any: it starts, and says what is missing when asked for a GPU.
echo '{"id": "a", "token_ids": [1, 2, 3]}' >"$root/tmp/requests.jsonl"
text=$(in_root LD_LIBRARY_PATH=/opt/cluster/lib /opt/cluster/bin/ccoe generate --offline --device cuda --model /opt/cluster/tests/golden/models/mixtral-8x2 \
  --requests /tmp/requests.jsonl 2>&1) && ! grep -q 'compute capability' <<<"$text" && fail "a GPU where there is none: $text"
grep -qE 'no device of this machine can be used|built without CUDA' <<<"$text" || fail "what ccoe says without a GPU: $text"
echo "PASSED  what gpu_check packs starts in an empty Debian root"
