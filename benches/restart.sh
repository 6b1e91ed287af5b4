#!/usr/bin/env bash
# What much state costs, for each engine: three nodes are filled with 1,000,000 keys of 256 bytes.
#
#   1. Memory: resident bytes of each node, per key.
#   2. Restart: one node is killed (kill -9) and started; how long until a linearizable read of its
#      is answered. From a snapshot and the log after it, as any node that runs for long.
#   3. Snapshots: puts of 64 clients, in windows by turns without a snapshot and with one that all
#      three nodes take at once (or those of SNAPSHOTS_ON); the 99th percentile of both.
#
# Environment: ENGINES, SNAPSHOTS_ON (numbers of nodes), KEYS, VALUE_SIZE, RUNS (restarts), ROUNDS (windows), SECONDS_EACH, DIR (where
# the data goes, on a disk), KEEP=1.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

engines=${ENGINES:-paxos raft}
keys=${KEYS:-1000000}
value_size=${VALUE_SIZE:-256}
runs=${RUNS:-5}
rounds=${ROUNDS:-5}
seconds=${SECONDS_EACH:-8}

build
make_work

now_ms() { date +%s%3N; }

# resident PID: bytes.
resident() { awk '/^VmRSS/ { print $2 * 1024 }' "/proc/$1/status"; }

# answers HOST:PORT: whether a read is answered with a value.
answers() {
  (
    exec 3<>"/dev/tcp/${1%:*}/${1#*:}" || exit 1
    printf 'GET key0000000000001\r\n' >&3
    IFS= read -r -t 5 line <&3 && [[ $line == \$$value_size* ]]
  ) 2>/dev/null
}

# snapshot ENGINE: each of these nodes takes one, at once.
snapshot() {
  local i
  for i in ${SNAPSHOTS_ON:-1 2 3}; do http_post "${quorate_debugs[$1,$i]##*:}" /debug/checkpoint >/dev/null; done
}

puts() {
  local engine=$1
  shift
  $quorate bench --json --node "${quorate_nodes[$engine]}" --keys "$keys" \
    --value-size "$value_size" "$@" 2>>"$work/load.log"
}

for engine in $engines; do
  start_quorate "$engine"
  echo "$engine: filling with $keys keys" >&2
  puts "$engine" --fill --pipeline 16 --clients 64 --warmup 0 --seconds 0.1 >/dev/null
  for i in 1 2 3; do
    resident "${quorate_pids[$engine,$i]}" >>"$work/$engine.resident"
  done
  for ((run = 1; run <= runs; run++)); do
    victim=$((run % 3 + 1))
    address=$(cut -d, -f$victim <<<"${quorate_nodes[$engine]}")
    kill -9 "${quorate_pids[$engine,$victim]}"
    wait_for 10 "the end of node $victim" is_gone "${quorate_pids[$engine,$victim]}"
    begin=$(now_ms)
    start_quorate_node "$engine" "$victim"
    until answers "$address"; do sleep 0.01; done
    echo $(($(now_ms) - begin)) >>"$work/$engine.restart"
    echo "$engine, restart $run of node $victim: $(tail -1 "$work/$engine.restart") ms" >&2
    sleep 2
    resident "${quorate_pids[$engine,$victim]}" >>"$work/$engine.restarted"
  done
  stop_quorate "$engine"

  # The same again, with a log that is long enough for no snapshot to be taken by itself.
  start_quorate "$engine" --log-bytes-max 64000000000
  echo "$engine: filling with $keys keys" >&2
  puts "$engine" --fill --pipeline 16 --clients 64 --warmup 0 --seconds 0.1 >/dev/null
  snapshot "$engine"
  sleep 10
  for ((round = 1; round <= rounds; round++)); do
    for kind in without with; do
      puts "$engine" --clients 64 --warmup 2 --seconds "$seconds" >"$work/run.json" &
      loader=$!
      sleep 2.5
      [ $kind = without ] || snapshot "$engine"
      wait "$loader"
      p99=$(field p99_us <"$work/run.json")
      echo "$p99" >>"$work/$engine.$kind"
      field ops_per_second <"$work/run.json" >>"$work/$engine.$kind.ops"
      echo "$engine, round $round, $kind snapshot: p99 $p99 us" >&2
      sleep 5
    done
  done
  stop_quorate "$engine"
done

echo "$(nproc) cores, $keys keys of 16 bytes with values of $value_size bytes, three nodes on one machine"
echo
echo "| engine | resident bytes per key | after a restart | restart ms | puts/s | p99 us | puts/s with a snapshot | p99 us | p99 ratio |"
echo "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
for engine in $engines; do
  read -r memory _ < <(spread <"$work/$engine.resident")
  read -r restarted _ < <(spread <"$work/$engine.restarted")
  read -r ms low high < <(spread <"$work/$engine.restart")
  read -r without _ < <(spread <"$work/$engine.without")
  read -r with _ < <(spread <"$work/$engine.with")
  read -r ops _ < <(spread <"$work/$engine.without.ops")
  read -r ops_with _ < <(spread <"$work/$engine.with.ops")
  awk "BEGIN { printf \"| %s | %.0f | %.0f | %d [%d-%d] | %.0f | %d | %.0f | %d | %.2f |\\n\", \
    \"$engine\", $memory / $keys, $restarted / $keys, $ms, $low, $high, $ops, $without, \
    $ops_with, $with, $with / $without }"
done
