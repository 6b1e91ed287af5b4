#!/usr/bin/env bash
# Quorate on both engines, etcd and Redis on this machine: puts and linearizable gets, in turns.
#
#   benches/compare.sh                 all of it, about 15 minutes
#   CLIENTS="1 64" benches/compare.sh  some of it
#
# Three etcd members and three Quorate nodes per engine, data on disk, fsync on, each with its own defaults;
# one Redis with appendonly yes and appendfsync always, not replicated, for scale. 100,000 keys of
# 16 bytes are filled in before, values have 256 bytes. Clients are a closed loop, spread over all
# nodes. The systems take turns (A B C A B C ..), so that a slow minute of the machine meets all of
# them; what is shown is the median, with the lowest and the highest.
#
# Environment: CLIENTS, ROUNDS, SECONDS_EACH, WARMUP, KEYS, VALUE_SIZE, SYSTEMS, WORKLOADS, DIR
# (where the data goes, on a disk), KEEP=1 (leave the data and the logs), OUT (also write the
# measurements there, one line each).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

clients_list=${CLIENTS:-1 16 64 256}
rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-5}
warmup=${WARMUP:-1}
keys=${KEYS:-100000}
value_size=${VALUE_SIZE:-256}
systems=${SYSTEMS:-paxos raft etcd redis}
workloads=${WORKLOADS:-put get}

has() { [[ " $systems " == *" $1 "* ]]; }

has etcd && need etcd etcd-server
has redis && need redis-server redis-server
build
make_work
results=${OUT:-$work/results}
: >"$results"

start_redis() {
  mkdir -p "$work/redis"
  free_port redis_port
  redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$work/redis" --save '' \
    --appendonly yes --appendfsync always >"$work/redis.log" 2>&1 &
  redis_pid=$!
  pids+=($!)
  wait_for 30 "redis" $quorate status --node "127.0.0.1:$redis_port"
}

for system in $systems; do start "$system"; done

# load SYSTEM OPTIONS...: one run; JSON.
load() {
  local system=$1
  shift
  case $system in
    paxos | raft) $quorate bench --json --node "${quorate_nodes[$system]}" "$@" ;;
    redis) $quorate bench --json --node "127.0.0.1:$redis_port" "$@" ;;
    etcd) $etcd_load --json --node "$etcd_urls" "$@" ;;
  esac 2>>"$work/load.log"
}

# cpu SYSTEM: ticks that its servers have taken so far.
cpu() {
  local pids=
  case $1 in
    paxos | raft)
      pids="${quorate_pids[$1,1]} ${quorate_pids[$1,2]} ${quorate_pids[$1,3]}"
      ;;
    redis) pids=$redis_pid ;;
    etcd) pids=${etcd_pids[*]} ;;
  esac
  for pid in $pids; do cat "/proc/$pid/stat"; done | awk '{ sum += $14 + $15 } END { print sum }'
}
tick_ms=$((1000 / $(getconf CLK_TCK)))

for system in $systems; do
  echo "filling $system with $keys keys" >&2
  load "$system" --keys "$keys" --value-size "$value_size" --fill --warmup 0 --seconds 0.1 \
    >/dev/null
done

for workload in $workloads; do
  for clients in $clients_list; do
    for ((round = 1; round <= rounds; round++)); do
      for system in $systems; do
        before=$(cpu "$system")
        json=$(load "$system" --workload "$workload" --clients "$clients" --keys "$keys" \
          --value-size "$value_size" --seconds "$seconds" --warmup "$warmup")
        ticks=$(($(cpu "$system") - before))
        ops=$(field ops_per_second <<<"$json")
        errors=$(grep -o '"errors":{[^}]*}' <<<"$json")
        # Of warm-up and measurement together, as if both went at one rate.
        cost=$(awk "BEGIN { printf \"%.0f\", \
          $ticks * $tick_ms * 1000 / ($ops * ($seconds + $warmup) + 1) }")
        echo "$workload $clients $system $ops $(field p50_us <<<"$json")" \
          "$(field p99_us <<<"$json") $cost" >>"$results"
        echo "$workload, $clients clients, round $round, $system: $ops ops/s" \
          "$([ "$errors" = '"errors":{}' ] || echo "$errors")" >&2
      done
    done
  done
done

# column N WORKLOAD CLIENTS SYSTEM: median, lowest, highest.
column() {
  awk -v n="$1" -v w="$2" -v c="$3" -v s="$4" '$1 == w && $2 == c && $3 == s { print $n }' \
    "$results" | spread
}

echo "$(nproc) cores, $(uname -m), $(stat -f -c %T "$work") file system; $keys keys," \
  "$value_size-byte values, $rounds runs of $seconds s each, median [lowest-highest]; p50 and" \
  "p99 in microseconds; CPU: servers' milliseconds per 1000 operations"
for workload in $workloads; do
  echo
  head="| clients |" rule="|--:|"
  for system in $systems; do
    head+=" $system ${workload}s/s | p50 | p99 | CPU |" rule+="--:|--:|--:|--:|"
  done
  for system in paxos raft; do
    has $system && has etcd && head+=" $system/etcd: ${workload}s/s | p50 |" rule+="--:|--:|"
  done
  printf '%s\n%s\n' "$head" "$rule"
  for clients in $clients_list; do
    line="| $clients |"
    for system in $systems; do
      read -r median low high < <(column 4 "$workload" "$clients" "$system")
      read -r p50 _ < <(column 5 "$workload" "$clients" "$system")
      read -r p99 _ < <(column 6 "$workload" "$clients" "$system")
      read -r cost _ < <(column 7 "$workload" "$clients" "$system")
      line+=" $median [$low-$high] | $p50 | $p99 | $cost |"
      declare "ops_$system=$median" "p50_$system=$p50"
    done
    for system in paxos raft; do
      ops=ops_$system p50=p50_$system
      has $system && has etcd && line+=$(awk "BEGIN { printf \" %.2f | %.2f |\", \
        ${!ops} / $ops_etcd, ${!p50} / $p50_etcd }")
    done
    echo "$line"
  done
done
