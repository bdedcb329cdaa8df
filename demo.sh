#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, starts the cluster with the demo model in this terminal's background, asks it a question
# of each domain and shows the answers. Usage: ./demo.sh [--keep] [--processes]
#   --keep       leave the cluster running at the end
#   --processes  every role as a process of its own (default: all in one)
set -euo pipefail
cd "$(dirname "$0")"

keep=false
up_flags=()
for argument in "$@"; do
  case "$argument" in
    --keep) keep=true ;;
    --processes) up_flags+=(--processes) ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "demo.sh: unknown argument $argument (see --help)" >&2; exit 2 ;;
  esac
done

server=127.0.0.1:${CCOE_DEMO_PORT:-8001}
http=127.0.0.1:${CCOE_DEMO_HTTP_PORT:-8002}
log=${TMPDIR:-/tmp}/ccoe-demo.log
ccoe=bazel-bin/services/cli/ccoe

tools/install_packages.sh
echo "Building: some minutes the first time (each line: steps done / steps known so far), seconds later ..."
bazel build --show_progress --curses=no --show_progress_rate_limit=5 //services/cli:ccoe

"$ccoe" up --model models/demo --listen "$server" --http "$http" "${up_flags[@]}" >"$log" 2>&1 &
pid=$!
stop() { kill -TERM "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; }
trap stop EXIT

printf 'Starting the cluster '
for _ in $(seq 120); do
  if ! kill -0 "$pid" 2>/dev/null; then
    echo; echo "The cluster ended; its log ($log) says:" >&2; tail -n 20 "$log" >&2; exit 1
  fi
  if /usr/bin/python3 -c "import urllib.request as u; u.urlopen('http://$http/healthz', timeout=1)" 2>/dev/null; then
    ready=true; break
  fi
  printf '.'; sleep 0.5
done
echo
[ "${ready:-false}" = true ] || { echo "Not ready after 60 seconds; see $log" >&2; exit 1; }

"$ccoe" status --server "$server"
echo
"$ccoe" ask --server "$server" --questions models/demo/eval --limit 1

echo
if [ "$keep" = true ]; then
  trap - EXIT
  disown "$pid"
  cat <<TXT
The cluster keeps running (process $pid, log $log). Talk to it:
  $ccoe chat --server $server --single-turn
  $ccoe generate --server $server --temperature 0 "What is the sum of 8 and 1?"
Metrics: http://$http/metrics   Stop it: kill $pid
TXT
else
  echo "Stopping. ./demo.sh --keep leaves the cluster running at $server."
fi
