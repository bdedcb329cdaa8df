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

# ccoe and its libraries travel as one archive.
unpack_ccoe() {
  [ -x "$CCOE" ] || [ ! -e "$root/ccoe.tar.gz" ] || tar -xzf "$root/ccoe.tar.gz" -C "$root"
}

profile_cluster() {
  unpack_ccoe
  export CCOE=$(first_of "$root/bin/ccoe" "$CCOE") EXCHANGES=grpc
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
  "profile_$profile"
  code=$?
  python3 "$tools/gpu_report.py" --command "tools/gpu_check.sh $profile" "$out/$profile.jsonl" | tee "$out/table.md"
  return $code
}

# pack_profile PROFILE DIR: what the profile needs on a machine that has nothing of ours.
pack_profile() {
  local profile=$1 to=$2 file bytes
  mkdir -p "$to/tools/gpu_check" "$to/bin" || return 1
  cp "$tools/gpu_check.sh" "$tools/gpu_report.py" "$to/tools/" || return 1
  cp "$tools"/gpu_check/*.py "$tools"/gpu_check/*.sh "$to/tools/gpu_check/" || return 1
  if [ "$profile" = cluster ]; then
    pack_ccoe "$to" || return 1
    mkdir -p "$to/tests/golden/models"
    for file in ccoe mixtral-8x2; do cp -rL "$GOLDEN/$file" "$to/tests/golden/models/" || return 1; done
  else
    cp -L "$(probe_of_profile)" "$to/bin/gpu_probe" && chmod u+w "$to/bin/gpu_probe" || return 1
    pack_sources "$to" || return 1
  fi
  bytes=$(du -sb "$to" | cut -f1)
  echo "$to: $profile, $bytes bytes; run $(basename "$to")/tools/gpu_check.sh $profile"
  [ "$bytes" -le "$MOST_PACKED" ] || { echo "gpu_check: expected at most $MOST_PACKED bytes" >&2; return 1; }
}

# Kernels, to be compiled again there by tools/gpu_probe/build_here.sh.
pack_sources() {
  local to=$1
  mkdir -p "$to/kernels/cuda" "$to/tools/gpu_probe"
  cp -L "$root"/kernels/*.h "$to/kernels/" && cp -L "$root"/kernels/cuda/*.h "$root"/kernels/cuda/*.cu "$root"/kernels/cuda/*.cuh "$to/kernels/cuda/" &&
    cp -L "$root"/tools/gpu_probe/*.cu "$root"/tools/gpu_probe/*.h "$tools/gpu_probe/build_here.sh" "$to/tools/gpu_probe/"
}

# ccoe without symbols and the libraries it needs, glibc's left out: bin/ and lib/.
pack_ccoe() {
  local to=$1 work name path
  [ -x "$CCOE" ] || { echo "gpu_check: no ccoe at $CCOE: bazel build --config=cuda //services/cli:ccoe" >&2; return 1; }
  work=$(mktemp -d) && mkdir -p "$work/bin" "$work/lib" || return 1
  strip -s -o "$work/bin/ccoe" "$(readlink -f "$CCOE")" || return 1
  while read -r name path; do
    case $name in
      libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libresolv.so.* | ld-linux*) ;;
      *) cp -L "$path" "$work/lib/$name" || return 1 ;;
    esac
  done < <(ldd "$CCOE" | awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }')
  tar -czf "$to/ccoe.tar.gz" -C "$work" bin lib && rm -rf "$work"
}
