#!/usr/bin/env bash
# How long writes stop when the node that leads is killed (kill -9) under 16 clients: Quorate on
# both engines and etcd in turns, three nodes each, data on disk. Shown is the longest time within a run in which no
# write of any client was acknowledged: median, lowest, highest, and all of them.
#
# A process that is killed closes its connections, which the others see at once. HOW=STOP freezes
# it instead: nobody is told, as when a machine loses its network.
#
# Environment: RUNS, CLIENTS, SYSTEMS, HOW, DIR (where the data goes, on a disk), KEEP=1.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

runs=${RUNS:-10}
clients=${CLIENTS:-16}
systems=${SYSTEMS:-paxos raft etcd}
how=${HOW:-KILL}

[[ $systems != *etcd* ]] || need etcd etcd-server
build
make_work
for system in $systems; do start "$system"; done

# strike SYSTEM: sets victim, the node's number, and sends it the signal.
strike() {
  if is_engine "$1"; then
    victim=$(quorate_leader "$1") || die "no node leads"
    kill -s "$how" "${quorate_pids[$1,$victim]}"
  else
    victim=$(etcd_leader) || die "no etcd member leads"
    kill -s "$how" "${etcd_pids[$victim]}"
  fi
}

# bury PID: until the process is gone; it may not be our own child.
bury() {
  kill -9 "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
  wait_for 10 "the end of process $1" is_gone "$1"
}

# revive SYSTEM: starts the victim again.
revive() {
  if is_engine "$1"; then
    bury "${quorate_pids[$1,$victim]}"
    start_quorate_node "$1" "$victim"
    wait_for 30 "node $victim" $quorate status --debug "${quorate_debugs[$1,$victim]}"
  else
    bury "${etcd_pids[$victim]}"
    start_etcd_member "$victim"
    wait_for 30 "member $victim" etcd_is_healthy "$victim"
  fi
}

load() {
  local system=$1
  shift
  if is_engine "$system"; then
    $quorate bench --json --node "${quorate_nodes[$system]}" "$@"
  else
    $etcd_load --json --node "$etcd_urls" "$@"
  fi
}

for ((run = 1; run <= runs; run++)); do
  for system in $systems; do
    load "$system" --clients "$clients" --warmup 1 --seconds 6 \
      >"$work/run.json" 2>>"$work/load.log" &
    loader=$!
    sleep 3
    strike "$system"
    wait "$loader" || true
    pause=$(field longest_write_pause_ms <"$work/run.json")
    echo "$pause" >>"$work/$system.pauses"
    echo "run $run, $system: node $victim, SIG$how, no write for $pause ms" >&2
    revive "$system"
    sleep 1
  done
done

echo "no acknowledged write, $clients clients, the leader gets SIG$how, $runs runs:"
echo "| system | median ms | lowest | highest | all |"
echo "|---|--:|--:|--:|---|"
for system in $systems; do
  read -r median low high < <(spread <"$work/$system.pauses")
  printf '| %s | %.0f | %.0f | %.0f | %s |\n' "$system" "$median" "$low" "$high" \
    "$(xargs printf '%.0f ' <"$work/$system.pauses")"
done
