# SPDX-License-Identifier: Apache-2.0
# The profiles of gpu_check.sh, which sources this: what a bare machine with a GPU tells in two or three minutes. A profile needs the
# driver, glibc 2.36, bash and Python 3; PyTorch's or a toolkit's cuBLASLt and NCCL are used where they are.
#
#   smoke    gpu_probe, all sections by importance, in 100 seconds
#   speed    its rates in 140 seconds, then ncu over three kernels where ncu is
#   cluster  one backbone and three expert processes on this GPU over gRPC, answers of the CPU
#
# Each leaves lines of JSON or a log in $OUT and its table in $OUT/table.md.

probe_of_profile() {  # the probe, here or in the tree
  first_of "$root/bin/gpu_probe" "$root/bazel-bin/tools/gpu_probe/gpu_probe"
}

run_probe() {  # run_probe OUT SECONDS WORDS...: its lines go to OUT
  local out=$1 seconds=$2 code
  shift 2
  timeout --kill-after=5 "$((seconds + 15))" "$(probe_of_profile)" --budget "$seconds" "$@" >"$out" 2>"$out.log"
  code=$?
  [ "$code" -eq 124 ] || [ "$code" -eq 137 ] && echo '{"section": "end", "ok": false, "error": "the probe did not end in time"}' >>"$out"
  return $code
}

profile_smoke() { run_probe "$out/smoke.jsonl" "${SECONDS_IN_ALL:-100}"; }

profile_speed() {
  local code ncu
  run_probe "$out/speed.jsonl" "${SECONDS_IN_ALL:-140}" --sections device,matmul,ops,decoder,captured
  code=$?
  ncu=$(PATH="$PATH:${CUDA_HOME:-/usr/local/cuda}/bin" command -v ncu) || { echo "no ncu here" >"$out/ncu.log"; return $code; }
  # What it says is read by people: a profiler that may not read the counters here fails nothing.
  timeout --kill-after=5 40 "$ncu" --target-processes all --set basic --kernel-name 'regex:SkinnyKernel|TileKernel' --launch-skip 1 \
    --launch-count 7 "$(probe_of_profile)" --budget 30 --sections profiled >"$out/ncu.log" 2>&1 || echo "ncu: exit code $?" >>"$out/ncu.log"
  return $code
}

# ccoe and its libraries travel as one archive. Unpacked anew each time: what an earlier archive left here would be run in its place.
unpack_ccoe() {
  [ "$CCOE" = "$root/bin/ccoe" ] && [ -e "$root/ccoe.tar.gz" ] || return 0
  tar -xzf "$root/ccoe.tar.gz" -C "$root"
}

profile_cluster() {
  unpack_ccoe || return 2
  export EXCHANGES=grpc
  [ -x "$CCOE" ] || { echo "gpu_check: no ccoe at $CCOE" >&2; return 2; }
  make_work_folder
  export WORK
  GPU_CHECK_PART=d timeout --kill-after=10 "${SECONDS_IN_ALL:-170}" bash "$tools/gpu_check.sh" >"$out/cluster.log" 2>&1
  local code=$? text
  text=$(sed -n 's/^RESULT: //p' "$out/cluster.log" | tail -1)
  python3 -c 'import json, sys; print(json.dumps({"section": "cluster", "ok": sys.argv[1] == "0", "code": int(sys.argv[1]), "result": sys.argv[2]}))' \
    "$code" "$text" >"$out/cluster.jsonl"
  [ "$code" -ne "$NOT_RUN" ] || return 3
  return $code
}

run_profile() {  # run_profile PROFILE
  local profile=$1 code
  if [ "$profile" != cluster ] && [ ! -x "$(probe_of_profile)" ]; then
    echo "gpu_check: no gpu_probe at $(probe_of_profile): bazel build --config=cuda //tools/gpu_probe:stripped" >&2
    return 2
  fi
  find_cuda_libraries
  out=${OUT:-gpu_check_results}
  mkdir -p "$out" && out=$(cd "$out" && pwd) || return 1
  rm -f "$out/$profile.jsonl"  # an earlier run's, which a table would show where this one says nothing
  "profile_$profile"
  code=$?
  python3 "$tools/gpu_report.py" --command "tools/gpu_check.sh $profile" "$out/$profile.jsonl" | tee "$out/table.md" || {
    echo "gpu_check: no whole table of $out/$profile.jsonl" >&2
    [ "$code" -ne 0 ] && [ "$code" -ne 3 ] || code=1
  }
  return $code
}

# pack_profile PROFILE DIR: what the profile needs on a machine that has nothing of ours. Made whole beside DIR first: what fails leaves DIR
# as it was. DIR is new, empty or of an earlier pack, whose files go (a run's results stay).
pack_profile() {
  local profile=$1 to=$2 bytes name
  if [ -e "$to" ] && { [ ! -d "$to" ] || { [ -n "$(ls -A "$to")" ] && [ ! -e "$to/PACKED" ]; }; }; then
    echo "gpu_check: expected a new or empty folder, or one that --pack made; $to is none" >&2
    return 1
  fi
  mkdir -p "$(dirname "$to")" && packing=$(mktemp -d "$(dirname "$to")/.gpu_check.XXXXXX") || return 1
  trap 'rm -rf "$packing"' EXIT
  pack_into "$packing" "$profile" && chmod -R u+w,a+rX "$packing" || return 1
  bytes=$(du -sb "$packing" | cut -f1)
  [ "$bytes" -le "$MOST_PACKED" ] || { echo "gpu_check: $bytes bytes, expected at most $MOST_PACKED" >&2; return 1; }
  mkdir -p "$to" && echo "$profile" >"$to/PACKED" || return 1
  for name in bin lib tools kernels tests ccoe.tar.gz; do rm -rf "${to:?}/$name" || return 1; done
  mv "$packing"/* "$to/" || return 1
  echo "$to: $profile, $bytes bytes; run $(basename "$to")/tools/gpu_check.sh $profile"
}

pack_into() {  # pack_into FOLDER PROFILE
  local to=$1 file
  mkdir -p "$to/tools/gpu_check" "$to/bin" || return 1
  cp "$tools/gpu_check.sh" "$tools/gpu_report.py" "$to/tools/" || return 1
  cp "$tools"/gpu_check/*.py "$tools"/gpu_check/*.sh "$to/tools/gpu_check/" || return 1
  if [ "$2" = cluster ]; then
    pack_ccoe "$to" || return 1
    mkdir -p "$to/tests/golden/models" || return 1
    for file in ccoe mixtral-8x2; do cp -rL "$GOLDEN/$file" "$to/tests/golden/models/" || return 1; done
  else
    cp -L "$(probe_of_profile)" "$to/bin/gpu_probe" && pack_sources "$to" || return 1
    # Without a GPU it says that there is none, and ends.
    starts '"section": *"end"' "$to/bin/gpu_probe" --sections device --budget 20 || return 1
  fi
}

# starts PATTERN BINARY WORDS...: it runs here and prints that. Python begins it: a shell, timeout and env run what is no program as a script.
starts() {
  local pattern=$1 text
  shift
  text=$(timeout --kill-after=5 60 python3 -c 'import os, sys; os.execv(sys.argv[1], sys.argv[1:])' "$@" 2>&1 | tr -d '\0')
  grep -q "$pattern" <<<"$text" && return 0
  echo "gpu_check: $(basename "$1") does not run here: $(tail -1 <<<"$text" | cut -c1-300)" >&2
  return 1
}

# Kernels, to be compiled again there by tools/gpu_probe/build_here.sh.
pack_sources() {
  local to=$1
  mkdir -p "$to/kernels/cuda" "$to/tools/gpu_probe" &&
    cp -L "$root"/kernels/*.h "$to/kernels/" &&
    cp -L "$root"/kernels/cuda/*.h "$root"/kernels/cuda/*.cu "$root"/kernels/cuda/*.cuh "$to/kernels/cuda/" &&
    cp -L "$root"/tools/gpu_probe/*.cu "$root"/tools/gpu_probe/*.h "$tools/gpu_probe/build_here.sh" "$to/tools/gpu_probe/"
}

of_the_machine() {  # glibc's own libraries and the driver's, as in deploy/bundle.sh
  case $1 in
    linux-vdso.so.* | ld-linux*.so.* | libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libutil.so.* | \
      libresolv.so.* | libanl.so.* | libnsl.so.* | libmvec.so.* | libcuda.so.* | libnvidia-*) return 0 ;;
    *) return 1 ;;
  esac
}

# ccoe without symbols and the libraries it needs, glibc's left out: bin/ and lib/, as an archive.
pack_ccoe() {
  local to=$1 work=$1/ccoe name path
  [ -x "$CCOE" ] || { echo "gpu_check: no ccoe at $CCOE: bazel build --config=cuda //services/cli:ccoe" >&2; return 1; }
  mkdir -p "$work/bin" "$work/lib" && strip -s -o "$work/bin/ccoe" "$(readlink -f "$CCOE")" || return 1
  while read -r name path; do
    of_the_machine "$name" && continue
    [ "$path" != not ] || { echo "gpu_check: $CCOE needs $name, which ldd does not find" >&2; return 1; }
    cp -L "$path" "$work/lib/$name" || return 1
  done < <(ldd "$CCOE" | awk '$2 == "=>" { print $1, $3 }')
  starts Usage "$work/bin/ccoe" --help || return 1
  tar -czf "$to/ccoe.tar.gz" -C "$work" bin lib && rm -rf "$work"
}
