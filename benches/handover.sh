#!/usr/bin/env bash
# How fast shards move, and how long one is not served meanwhile: two groups of three replicas each, filled
# with BYTES of values; then one of them leaves, once while nobody asks for anything, and back again while
# clients read and write. Prints MB/s, and the longest that any operation took, at rest and meanwhile.
#
# Environment: ENGINE, BYTES (of values, in the whole store; the group that leaves has half), VALUE_SIZE,
# SHARDS, CLIENTS, DIR (where the data goes, on a disk), KEEP=1, SKIP_BUILD=1.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

engine=${ENGINE:-paxos}
bytes=${BYTES:-2147483648}
value_size=${VALUE_SIZE:-4096}
shards=${SHARDS:-1024}
clients=${CLIENTS:-16}
keys=$((bytes / value_size))

build
make_work

start_quorate "$engine" --groups 2 --shards "$shards" --log-bytes-max 134217728
nodes=${quorate_nodes[$engine]}
debug=${quorate_debugs[$engine,1]},${quorate_debugs[$engine,2]},${quorate_debugs[$engine,3]}

bench() {
  $quorate bench --json --node "$nodes" --value-size "$value_size" "$@" 2>>"$work/load.log"
}
shards() { $quorate shards "$@" --json --node "${nodes%%,*}" --debug "$debug"; }
# A few keys, so that each is asked for all the time.
probe() { bench --workload mixed --clients "$clients" --keys 1024 --warmup 0.5 "$@"; }

echo "filling with $keys values of $value_size bytes" >&2
bench --workload put --fill --pipeline 16 --clients 32 --keys "$keys" --warmup 0 --seconds 1 >/dev/null
$quorate status --debug "$debug" >&2

probe --seconds 5 >"$work/rest"
echo "g2 leaves, nobody asks" >&2
shards leave g2 >"$work/quiet"
echo "g2 joins again" >&2
shards join g2 >"$work/join"
echo "g2 leaves, clients ask" >&2
probe --seconds 40 >"$work/meanwhile" &
asking=$!
sleep 2
shards leave g2 >"$work/busy"
wait "$asking"

python3 - "$work" "$bytes" "$engine" <<'PY'
import json, sys
work, total, engine = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def read(name):
    with open(f"{work}/{name}") as file:
        return json.loads(file.read().strip().splitlines()[-1])
moved = total / 2
for name, words in (("quiet", "nobody asks"), ("busy", "clients ask")):
    took = read(name)["took_ms"] / 1000
    print(f"{engine}, {words}: {moved / 2**20:,.0f} MiB in {took:.1f} s, {moved / 1e6 / took:,.0f} MB/s")
for name, words in (("rest", "at rest"), ("meanwhile", "while it leaves")):
    result = read(name)
    for kind in ("put", "get"):
        r = result[kind]
        print(f"  {kind}s {words}: p99 {r['p99_us'] / 1000:.1f} ms, longest {r['max_us'] / 1000:.1f} ms")
PY
