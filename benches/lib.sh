# What the scripts of this folder share. Source it; it changes to the root of the checkout.
# All processes are ours, on loopback ports that are free, with their data below one directory
# that goes at the end.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quorate=target/release/quorate
etcd_load=benches/etcd-load/target/release/etcd-load
pids=()

die() {
  echo "$*" >&2
  exit 1
}

cleanup() {
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  [ -z "${work:-}" ] || [ -n "${KEEP:-}" ] || rm -rf "$work"
}

# need COMMAND PACKAGE: installs a Debian package when its command is missing.
need() {
  command -v "$1" >/dev/null && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
    die "$1 is missing: install it (Debian: apt-get install $2) and try again"
  apt-get install -y -q --no-install-recommends "$2" >&2 ||
    { apt-get update -q >&2 && apt-get install -y -q --no-install-recommends "$2" >&2; }
}

# SKIP_BUILD=1: with the binaries that are there.
build() {
  [ -z "${SKIP_BUILD:-}" ] || return 0
  cargo build --release --bin quorate >&2
  cargo build --release --manifest-path benches/etcd-load/Cargo.toml >&2
}

# The directory of this run. It must be on a disk: in memory fsync would cost nothing.
make_work() {
  work=$(mktemp -d "${DIR:-${TMPDIR:-/tmp}}/quorate-bench-XXXXXX")
  trap cleanup EXIT
  trap 'exit 130' INT TERM
  case $(stat -f -c %T "$work") in
    tmpfs | ramfs) die "$work is in memory: name a directory on a disk, DIR=/somewhere $0" ;;
  esac
}

next_port=$((21000 + $$ % 500 * 20))
# free_port NAME: puts a port nobody listens on into the variable NAME.
free_port() {
  while (exec 3<>"/dev/tcp/127.0.0.1/$next_port") 2>/dev/null; do
    next_port=$((next_port + 1))
  done
  printf -v "$1" %s "$next_port"
  next_port=$((next_port + 1))
}

# http_get PORT PATH: the whole answer.
http_get() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$2" >&3
    timeout 3 cat <&3
  ) 2>/dev/null
}

# http_post PORT PATH: the whole answer.
http_post() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' \
      "$2" >&3
    timeout 3 cat <&3
  ) 2>/dev/null
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
  local patience=$(($1 * 20)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    patience=$((patience - 1))
    [ $patience -gt 0 ] || die "$what takes too long"
    sleep 0.05
  done
}

etcd_urls=
etcd_ports=()
etcd_peer_ports=()
etcd_pids=()

# start_etcd_member I: also used to start it again.
start_etcd_member() {
  local i=$1 j cluster= host=http://127.0.0.1
  for j in 0 1 2; do cluster+="${cluster:+,}m$j=$host:${etcd_peer_ports[$j]}"; done
  etcd --name "m$i" --data-dir "$work/etcd/m$i" \
    --listen-client-urls "$host:${etcd_ports[$i]}" \
    --advertise-client-urls "$host:${etcd_ports[$i]}" \
    --listen-peer-urls "$host:${etcd_peer_ports[$i]}" \
    --initial-advertise-peer-urls "$host:${etcd_peer_ports[$i]}" \
    --initial-cluster "$cluster" --initial-cluster-token quorate-bench \
    --quota-backend-bytes 8589934592 --logger zap --log-outputs "$work/etcd/m$i.log" \
    >"$work/etcd/m$i.out" 2>&1 &
  etcd_pids[$i]=$!
  pids+=($!)
}

# Three members with etcd's own defaults, each on its own data directory.
start_etcd() {
  local i host=http://127.0.0.1
  mkdir -p "$work/etcd"
  case $(uname -m) in x86_64) ;; *) ETCD_UNSUPPORTED_ARCH=$(dpkg --print-architecture) ;; esac
  [ -z "${ETCD_UNSUPPORTED_ARCH:-}" ] || export ETCD_UNSUPPORTED_ARCH
  for i in 0 1 2; do
    free_port "etcd_ports[$i]"
    free_port "etcd_peer_ports[$i]"
    etcd_urls+="${etcd_urls:+,}$host:${etcd_ports[$i]}"
  done
  for i in 0 1 2; do start_etcd_member "$i"; done
  for i in 0 1 2; do wait_for 30 "etcd" etcd_is_healthy "$i"; done
}

# No -q: who stops reading early would fail the pipe.
etcd_is_healthy() { http_get "${etcd_ports[$1]}" /health | grep '"health":"true"' >/dev/null; }

# The member that leads, 0 to 2.
etcd_leader() {
  local i
  for i in 0 1 2; do
    if http_get "${etcd_ports[$i]}" /metrics | grep '^etcd_server_is_leader 1' >/dev/null; then
      echo "$i"
      return
    fi
  done
  return 1
}

# By system, which is an engine, paxos or raft; the others by system and node, from 1: raft,2.
declare -A quorate_nodes quorate_pids quorate_debugs quorate_locals

is_engine() { [ "$1" = paxos ] || [ "$1" = raft ]; }

# start_quorate ENGINE [OPTIONS...]: three nodes as anyone gets them.
start_quorate() {
  local engine=$1 out=$work/$1.out ready i
  shift
  $quorate local --json --engine "$engine" --dir "$work/$engine" --port 0 "$@" >"$out" 2>&1 &
  quorate_locals[$engine]=$!
  pids+=($!)
  wait_for 60 "quorate local" grep -q '"event":"ready"' "$out"
  ready=$(grep '"event":"ready"' "$out")
  quorate_nodes[$engine]=$(grep -o '"resp":"[^"]*"' <<<"$ready" | cut -d'"' -f4 | paste -sd, -)
  i=1
  while read -r debug; do
    quorate_debugs[$engine,$i]=$debug
    i=$((i + 1))
  done < <(grep -o '"debug":"[^"]*"' <<<"$ready" | cut -d'"' -f4)
  i=1
  while read -r pid; do
    quorate_pids[$engine,$i]=$pid
    i=$((i + 1))
  done < <(grep -o '"pid":[0-9]*' <<<"$ready" | cut -d: -f2)
}

# quorate_leader ENGINE: the node that leads, 1 to 3: what most nodes say.
quorate_leader() {
  local leader debugs
  debugs="${quorate_debugs[$1,1]},${quorate_debugs[$1,2]},${quorate_debugs[$1,3]}"
  leader=$($quorate status --json --debug "$debugs" |
    grep -o '"leader":[0-9]*' | sort | uniq -c | sort -n | tail -1 | sed 's/.*://') || return
  [ -n "$leader" ] && echo "$leader"
}

# start_quorate_node ENGINE NODE: again, after it has ended.
start_quorate_node() {
  $quorate node --config "$work/$1/n$2/node.toml" >>"$work/$1-n$2.log" 2>&1 &
  quorate_pids[$1,$2]=$!
  pids+=($!)
}

# stop_quorate ENGINE: all its nodes, and forgets their data.
stop_quorate() {
  local pid
  for pid in "${quorate_locals[$1]}" "${quorate_pids[$1,1]}" "${quorate_pids[$1,2]}" \
    "${quorate_pids[$1,3]}"; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    wait_for 30 "the end of process $pid" is_gone "$pid"
  done
  rm -rf "${work:?}/$1"
}

# A process of which only the entry is left; while threads of it are, they hold its files.
is_gone() {
  ! kill -0 "$1" 2>/dev/null ||
    { grep -q '^State:.*Z' "/proc/$1/status" && grep -q '^Threads:.*\b1$' "/proc/$1/status"; }
}

# start SYSTEM: paxos, raft or etcd.
start() { if is_engine "$1"; then start_quorate "$1"; else "start_$1"; fi; }

# field NAME < JSON: a number.
field() { sed -n "s/.*\"$1\":\\([0-9.]*\\).*/\\1/p"; }

# Median, lowest and highest of the numbers on standard input.
spread() {
  sort -g | awk '{ v[NR] = $1 } END {
    if (NR == 0) { print "- - -"; exit }
    m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
    print m, v[1], v[NR] }'
}
