#!/usr/bin/env bash
# How long writes stop when the node that leads is killed (kill -9) under 16 clients: Quorate and
# etcd in turns, three nodes each, data on disk. Shown is the longest time within a run in which no
# write of any client was acknowledged: median, lowest, highest, and all of them.
#
# Environment: RUNS, CLIENTS, SYSTEMS, DIR (where the data goes, on a disk), KEEP=1.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

runs=${RUNS:-10}
clients=${CLIENTS:-16}
systems=${SYSTEMS:-quorate etcd}

[[ $systems != *etcd* ]] || need etcd etcd-server
build
make_work
for system in $systems; do "start_$system"; done

kill_quorate_leader() {
  local leader
  leader=$(quorate_leader)
  kill -9 "${quorate_pids[$leader]}"
  killed=$leader
}

revive_quorate() {
  local config=$work/quorate/n$killed/node.toml
  # The killed process has another parent and may take a moment to go.
  wait_for 10 "the end of a node" is_gone "${quorate_pids[$killed]}"
  $quorate node --config "$config" >>"$work/quorate-n$killed.log" 2>&1 &
  quorate_pids[$killed]=$!
  pids+=($!)
  wait_for 30 "node $killed" $quorate status --debug "${quorate_debugs[$killed]}"
}

is_gone() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.*Z' "/proc/$1/status"; }

kill_etcd_leader() {
  killed=$(etcd_leader)
  kill -9 "${etcd_pids[$killed]}"
}

revive_etcd() {
  start_etcd_member "$killed"
  wait_for 30 "member $killed" etcd_is_healthy "$killed"
}

load() {
  local system=$1
  shift
  case $system in
    quorate) $quorate bench --json --node "$quorate_nodes" "$@" ;;
    etcd) $etcd_load --json --node "$etcd_urls" "$@" ;;
  esac
}

for ((run = 1; run <= runs; run++)); do
  for system in $systems; do
    load "$system" --clients "$clients" --warmup 1 --seconds 6 >"$work/run.json" 2>>"$work/load.log" &
    loader=$!
    sleep 3
    "kill_${system}_leader"
    wait "$loader" || true
    pause=$(field longest_write_pause_ms <"$work/run.json")
    echo "$pause" >>"$work/$system.pauses"
    echo "run $run, $system: node $killed killed, no write for $pause ms" >&2
    "revive_$system"
    sleep 1
  done
done

echo "| system | median ms | lowest | highest | all |"
echo "|---|--:|--:|--:|---|"
for system in $systems; do
  read -r median low high < <(spread <"$work/$system.pauses")
  printf '| %s | %.0f | %.0f | %.0f | %s |\n' "$system" "$median" "$low" "$high" \
    "$(xargs printf '%.0f ' <"$work/$system.pauses")"
done
