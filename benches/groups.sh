#!/usr/bin/env bash
# What division costs and gives: three nodes, one store that is not divided and stores of 1, 2 and 4
# groups, by turns in one run; puts and gets of 64 clients. Medians of RUNS.
#
# Environment: ENGINE, GROUPS_OF (numbers of groups; 0 is not divided), THREADS (a list, as
# --group-threads takes them), CLIENTS, KEYS, VALUE_SIZE, RUNS, SECONDS_EACH, DIR (where the data goes,
# on a disk), KEEP=1, SKIP_BUILD=1.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

engine=${ENGINE:-paxos}
groups=${GROUPS_OF:-0 1 2 4}
threads=${THREADS:-0}
clients=${CLIENTS:-64}
keys=${KEYS:-100000}
value_size=${VALUE_SIZE:-256}
runs=${RUNS:-3}
seconds=${SECONDS_EACH:-4}

build
make_work

load() {
  $quorate bench --json --node "${quorate_nodes[$engine]}" --clients "$clients" --keys "$keys" \
    --value-size "$value_size" --warmup 1 --seconds "$seconds" "$@" 2>>"$work/load.log"
}

for ((run = 1; run <= runs; run++)); do
  for count in $groups; do
    for thread in $threads; do
      name=$engine-$count-$thread-$run
      divided=()
      [ "$count" = 0 ] || divided=(--groups "$count")
      start_quorate "$engine" "${divided[@]}" --group-threads "$thread"
      load --workload put --fill >"$work/$name.put"
      load --workload get >"$work/$name.get"
      stop_quorate "$engine"
      echo "$name done" >&2
    done
  done
done

python3 - "$work" "$engine" "$runs" "$groups" "$threads" <<'PY'
import json, statistics, sys
work, engine, runs, groups, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]
def median(count, thread, kind, pick):
    values = []
    for run in range(1, runs + 1):
        with open(f"{work}/{engine}-{count}-{thread}-{run}.{kind}") as file:
            values.append(pick(json.load(file)))
    return statistics.median(values)
def rate(kind):
    return lambda result: result["ops_per_second"]
def p99(kind):
    return lambda result: result[kind]["p99_us"] / 1000
print(f"{engine}, medians of {runs}")
print("groups  threads    puts/s  p99 ms    gets/s  p99 ms")
for count in groups.split():
    for thread in threads.split():
        numbers = [median(count, thread, kind, pick(kind)) for kind in ("put", "get") for pick in (rate, p99)]
        name = "none" if count == "0" else count
        print(f"{name:>6}  {thread:>7}  {numbers[0]:8,.0f}  {numbers[1]:6.1f}  {numbers[2]:8,.0f}  {numbers[3]:6.1f}")
PY
