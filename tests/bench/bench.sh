#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bench.sh [-b BUILD] [-r ROUNDS] [-p "peer ..."] [-w "workload ..."] [-q] [-o FOLDER] - pairs of gateways side by side:
#
#   load - plain HTTP - gateway A - mutual TLS 1.3 - gateway B - plain HTTP - origin      (all on 127.0.0.1)
#
#   workloads  c1 c64 c256     keep-alive requests on 1, 64 and 256 connections
#              open2k          2,000 requests/s on a fixed schedule
#              close           a connection per request, 32 at a time
#              down1 down8 up1 up8   1 GiB by 1 or 8 streams
#              idle idletls    memory of idle client connections (idletls: mutual TLS, ours only)
#   -q  windows of a third
#
# Each round starts every pair once, in an order that moves on by one; the table has medians over the rounds. One worker per
# gateway. The figure to compare is the CPU time of all processes of both gateways: client, origin and gateways share the
# machine's cores, so throughput is only what the others leave. A pair that gives a wrong answer is left out.
#
# An adapter, peers/NAME.sh, sets PEER_KIND (http or tcp) and PEER_TLS (yes: it uses the certificates of this script,
# own: it brings its own) and defines peer_check and peer_start, which calls "spawn A command..." and "spawn B command..."
# with servers that stay in the foreground. It is given A_PORT B_PORT K_PORT (origin) RUN RUNIN (a folder, twice)
# A_CERT B_CERT (names in $RUNIN/certs: .crt .key .pem, with ca.crt) THREADS FDS. The process tree below what it
# spawned is what is measured.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$here/../../build rounds=3 work="c1 c64 c256 open2k close down1 down8 up1 up8 idle idletls" peers="" third=1 out=""
while getopts b:r:p:w:o:q o; do
	case $o in
	b) build=$OPTARG ;;
	r) rounds=$OPTARG ;;
	p) peers=$OPTARG ;;
	w) work=$OPTARG ;;
	o) out=$OPTARG ;;
	q) third=3 ;;
	*) exit 2 ;;
	esac
done
build=$(cd "$build" && pwd) || exit 2
[ -n "$peers" ] || peers="sallyport nghttpx haproxy-h2 haproxy-h1 nginx haproxy-tcp nginx-stream"
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sallyport-bench.XXXXXX")
chmod 711 "$tmp" # servers that drop their user read below it
out=${out:-$build/bench}
mkdir -p "$out"
results=$out/results.jsonl
: >"$results"
ulimit -n "$(ulimit -Hn)"
FDS=$(ulimit -n)
# Used by adapters.
# shellcheck disable=SC2034
THREADS=1 OURS=$build
A_PORT=${A_PORT:-28080} B_PORT=${B_PORT:-28443} K_PORT=${K_PORT:-28081}
export OURS

# Two runs at a time would share ports and cores.
exec 9>"${TMPDIR:-/tmp}/sallyport-bench.$(id -u).lock"
flock -n 9 || { echo "bench: another run is under way; waiting for it" >&2; flock 9; }

declare -A root=()
say() { printf '%s\n' "$*" >&2; }
spawn() {
	local side=$1
	shift
	"$@" </dev/null >>"$RUN/$side.log" 2>&1 9>&- &
	root[$side]=$!
}
family() { # process: it and everything below it
	local child
	[ -d "/proc/$1" ] || return
	echo "$1"
	for child in $(cat "/proc/$1"/task/*/children 2>/dev/null); do family "$child"; done
}
ids() { family "$1" | tr '\n' , | sed 's/,$//'; }
listens() { # port

	for _ in $(seq 200); do
		(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
		sleep 0.05
	done
	return 1
}
stop() { # side
	local pid=${root[$1]:-} all p
	[ -n "$pid" ] || return 0
	unset "root[$1]"
	all=$(family "$pid")
	kill -TERM "$pid" 2>/dev/null
	for _ in $(seq 100); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.05
	done
	for p in $all; do kill -KILL "$p" 2>/dev/null; done
	wait "$pid" 2>/dev/null
}
finish() {
	stop A
	stop B
	stop K
	rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 130' INT TERM

# ---- certificates for the peers -------------------------------------------------------------
certs() {
	local name use
	mkdir -p "$tmp/certs" && cd "$tmp/certs" || return 1
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=benchmark' \
		-addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.crt 2>/dev/null || return 1
	for name in client:gateway-a:clientAuth server:gateway-b:serverAuth; do
		IFS=: read -r name cn use <<<"$name"
		openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$cn" -keyout "$name.key" -out "$name.csr" 2>/dev/null
		printf 'keyUsage=critical,digitalSignature\nextendedKeyUsage=%s\nsubjectAltName=DNS:%s\n' "$use" "$cn" >ext
		openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -days 2 -extfile ext -out "$name.crt" 2>/dev/null || return 1
		cat "$name.crt" "$name.key" >"$name.pem"
	done
	chmod 644 ./*.key ./*.pem # short-lived, and the servers run as users of their own
	cd - >/dev/null || return 1
}
certs || { say "bench: cannot make certificates with openssl"; exit 1; }

load_peer() {
	unset -f peer_check peer_start
	# shellcheck disable=SC2034
	PEER_KIND=http PEER_TLS=yes
	# shellcheck disable=SC1090
	. "$here/peers/$1.sh" || return 1
	PEER=$1 RUN=$tmp/$1
	# shellcheck disable=SC2034
	RUNIN=$RUN A_CERT=client B_CERT=server PEER_CHROOT=""
	mkdir -p "$RUN"
	[ -d "$RUN/certs" ] || cp -r "$tmp/certs" "$RUN/certs"
}
start_peer() {
	peer_start
	if ! listens "$B_PORT" || ! listens "$A_PORT"; then
		say "bench: $PEER does not start:"
		tail -n 5 "$RUN"/*.log >&2
		stop A
		stop B
		return 1
	fi
	sleep 0.3
}
# The right answers, and nobody without a certificate.
verify_peer() {
	local bad=0
	start_peer || return 1
	[ "$(curl -s -m 10 -H 'Host: bench.local' "http://127.0.0.1:$A_PORT/small" | wc -c)" = 63 ] || { say "bench: $PEER: wrong answer to GET /small"; bad=1; }
	curl -s -m 10 -H 'Host: bench.local' "http://127.0.0.1:$A_PORT/data/3000003" | cmp -s - "$tmp/data" || { say "bench: $PEER: GET /data differs"; bad=1; }
	[ "$(head -c 3000000 /dev/zero | curl -s -m 10 -H 'Host: bench.local' -H Expect: --data-binary @- "http://127.0.0.1:$A_PORT/drop")" = 3000000 ] ||
		{ say "bench: $PEER: POST /drop differs"; bad=1; }
	if printf 'GET /small HTTP/1.1\r\nHost: bench.local\r\nConnection: close\r\n\r\n' |
		timeout 5 openssl s_client -connect "127.0.0.1:$B_PORT" -ign_eof 2>/dev/null | grep -q abcdefghij; then
		say "bench: $PEER: B answers a client without a certificate"
		bad=1
	fi
	stop A
	stop B
	return $bad
}

seconds() { awk "BEGIN { print $1 / $third }"; }
idle=$(((FDS - 2000) / 2 < 8000 ? (FDS - 2000) / 2 : 8000)) # a pair in TCP mode needs two descriptors per client
arguments() {
	case $1 in
	c1) echo closed -c 1 -w 0.3 -d "$(seconds 2)" ;;
	c64) echo closed -c 64 -w 0.5 -d "$(seconds 3)" ;;
	c256) echo closed -c 256 -w 0.5 -d "$(seconds 3)" ;;
	open2k) echo open -c 64 -r 2000 -w 0.5 -d "$(seconds 4)" ;;
	close) echo close -c 32 -w 0.5 -d "$(seconds 2.4)" ;;
	down[18] | up[18]) echo "${1%[18]}" -c "${1: -1}" -n 1073741824 ;;
	idle) echo idle -c "$idle" -d 2 ;;
	idletls) echo idle -c 2000 -d 2 ;;
	esac
}
measure() { # workload
	local at=$A_PORT tls=() line
	local -a args
	read -ra args <<<"$(arguments "$1")"
	[ ${#args[@]} -gt 0 ] || { say "bench: no workload $1"; return; }
	if [ "$1" = idletls ]; then
		[ "$PEER" = sallyport ] || return
		at=$((A_PORT + 100))
		tls=(-C "$RUN/ours/a/client.crt" -K "$RUN/ours/a/client.key" -S "$RUN/ours/a/bundle.pem" -N bench.local)
	fi
	line=$(timeout 240 "$build/tests/bench/load" "${args[@]}" -t "127.0.0.1:$at" -A "$(ids "${root[A]}")" -B "$(ids "${root[B]}")" \
		-O "$(ids "${root[K]}")" "${tls[@]}" 2>>"$tmp/log")
	[ -n "$line" ] || line='{"ok":0,"err":1,"why":"the client failed: '$(tail -n 1 "$tmp/log" | tr -d '"\\')'"}'
	printf '{"peer":"%s","kind":"%s","work":"%s","round":%s,%s\n' "$PEER" "$PEER_KIND" "$1" "$round" "${line#\{}" >>"$results"
}

for port in $A_PORT $B_PORT $K_PORT; do
	if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
		say "bench: port $port is taken, perhaps by another run; set A_PORT, B_PORT and K_PORT"
		exit 1
	fi
done
RUN=$tmp
spawn K "$build/tests/bench/origin" "127.0.0.1:$K_PORT"
listens "$K_PORT" || { say "bench: the origin does not start"; exit 1; }
curl -s "http://127.0.0.1:$K_PORT/data/3000003" >"$tmp/data"

good=()
for p in $peers; do
	load_peer "$p" || continue
	if ! peer_check; then
		say "bench: $p cannot run here, left out"
	elif verify_peer; then
		good+=("$p")
	else
		say "bench: $p left out"
		mkdir -p "$out/$p"
		cp "$RUN"/*.log "$out/$p/" 2>/dev/null
	fi
done
[ ${#good[@]} -gt 0 ] || exit 1
for round in $(seq "$rounds"); do
	for i in $(seq 0 $((${#good[@]} - 1))); do
		load_peer "${good[(i + round - 1) % ${#good[@]}]}"
		start_peer || continue
		for w in $work; do
			case $w in idle*)
				# From a fresh start: what other workloads left in pools would hide the cost.
				[ "$round" -le 2 ] || continue
				stop A
				stop B
				start_peer || continue
				;;
			esac
			measure "$w"
		done
		stop A
		stop B
	done
	say "bench: round $round of $rounds, load $(cut -d' ' -f1 /proc/loadavg)"
done
python3 "$here/report.py" "$results" | tee "$out/table.md"
