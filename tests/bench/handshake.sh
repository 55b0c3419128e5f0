#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# handshake.sh [-b BUILD] [-r ROUNDS] [-p "peer ..."] [-o FOLDER] - mutual TLS 1.3 handshakes, side by side:
#
#   load - TLS, client certificate - the server under test - plain HTTP - origin      (all on 127.0.0.1)
#
# Each connection is a full handshake (no tickets, no cache; P-256 on both sides, chains of two), one small request, the end; 32 at
# a time. Two workers each. "sallyport" has its key in the keys role; "in-process" is a bare server of libssl with the key in
# the process that needs it and nothing behind it: the floor. The client shares the machine's cores: compare CPU, and rates as ratios.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$here/../../build rounds=3 peers="sallyport in-process nginx haproxy" out=""
while getopts b:r:p:o: o; do
	case $o in
	b) build=$OPTARG ;;
	r) rounds=$OPTARG ;;
	p) peers=$OPTARG ;;
	o) out=$OPTARG ;;
	*) exit 2 ;;
	esac
done
build=$(cd "$build" && pwd) || exit 2
tmp=$(mktemp -d "${TMPDIR:-/tmp}/sallyport-bench.XXXXXX")
chmod 711 "$tmp"
out=${out:-$build/bench}
mkdir -p "$out"
results=$out/handshakes.jsonl
: >"$results"
ulimit -n "$(ulimit -Hn)"
T_PORT=${T_PORT:-28443} K_PORT=${K_PORT:-28081}

exec 9>"${TMPDIR:-/tmp}/sallyport-bench.$(id -u).lock"
flock -n 9 || { echo "bench: another run is under way; waiting for it" >&2; flock 9; }

server="" origin=""
say() { printf '%s\n' "$*" >&2; }
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
stop() { # process
	local all p
	[ -n "$1" ] || return 0
	all=$(family "$1")
	kill -TERM "$1" 2>/dev/null
	for _ in $(seq 100); do
		kill -0 "$1" 2>/dev/null || break
		sleep 0.05
	done
	for p in $all; do kill -KILL "$p" 2>/dev/null; done
	wait "$1" 2>/dev/null
}
finish() {
	stop "$server"
	stop "$origin"
	rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 130' INT TERM

# ---- one set of certificates for all ----
g=$build/gwctl
mkdir -p "$tmp/policy.d" "$tmp/journal" && cd "$tmp" || exit 1
{ "$g" pki init a.example --dir pki && "$g" pki issue gateway dmz1 --dir pki --out gateway &&
	"$g" pki issue gateway dmz1 --dir pki --out inside --dns bench.local && "$g" pki issue workload client --dir pki --out client &&
	"$g" pki bundle --dir pki >ca.pem; } >/dev/null || exit 1
cat inside.crt inside.key >inside.pem
chmod 644 inside.key inside.pem # short-lived, and the servers run as users of their own

start_sallyport() {
	cat >sallyport.conf <<-CONF
	domain = "a.example";
	identity = { certificate = "gateway.crt"; key = "gateway.key"; bundle = "ca.pem"; };
	inside = { certificate = "inside.crt"; key = "inside.key"; };
	user_prefix = "61000";
	workers = 2;
	journal = { directory = "journal"; };
	control = { socket = "control.sock"; };
	limits = { connections_per_source = 100000; handshakes_per_source = 100000; handshakes = 10000; signatures_per_second = 100000; };
	listeners = ( { name = "inside"; address = "127.0.0.1:$T_PORT"; accept = [ "workloads" ]; } );
	services = ( { name = "bench"; host = "bench.local"; endpoints = [ "127.0.0.1:$K_PORT" ]; max_connections = 4096; } );
	CONF
	echo 'allow = ( { name = "bench"; principals = [ "spiffe://a.example/client" ]; services = [ "bench" ]; } );' >policy.d/bench.conf
	"$build/sallyportd" -f -c "$tmp/sallyport.conf" </dev/null >>log 2>&1 9>&- &
}
start_in_process() {
	"$build/tests/bench/handshake" serve -t "127.0.0.1:$T_PORT" -C inside.crt -K inside.key -S ca.pem -p 2 </dev/null >>log 2>&1 9>&- &
}
start_nginx() {
	cat >nginx.conf <<-CONF
	$([ "$(id -u)" = 0 ] && echo "user root;")
	daemon off; worker_processes 2; pid $tmp/nginx.pid; error_log $tmp/nginx.err error;
	events { worker_connections 4096; multi_accept on; }
	http {
		access_log off; server_tokens off; tcp_nodelay on;
		upstream next { server 127.0.0.1:$K_PORT; keepalive 256; keepalive_requests 1000000000; }
		server {
			listen 127.0.0.1:$T_PORT ssl reuseport backlog=4096; ssl_certificate $tmp/inside.crt; ssl_certificate_key $tmp/inside.key;
			ssl_client_certificate $tmp/ca.pem; ssl_verify_client on; ssl_verify_depth 3; ssl_protocols TLSv1.3;
			ssl_session_cache off; ssl_session_tickets off; ssl_ecdh_curve X25519:prime256v1;
			client_body_temp_path $tmp/body; proxy_temp_path $tmp/proxy; fastcgi_temp_path $tmp/f; uwsgi_temp_path $tmp/u; scgi_temp_path $tmp/s;
			location / { proxy_pass http://next; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host \$host; }
		}
	}
	CONF
	/usr/sbin/nginx -e "$tmp/nginx.err" -c "$tmp/nginx.conf" </dev/null >>log 2>&1 9>&- &
}
start_haproxy() {
	cat >haproxy.cfg <<-CONF
	global
		nbthread 2
		maxconn 4000
		tune.ssl.cachesize 0
		ssl-default-bind-curves X25519:P-256
	defaults
		mode http
		option http-keep-alive
		http-reuse always
		timeout connect 5s
		timeout client 60s
		timeout server 60s
	listen a
		bind 127.0.0.1:$T_PORT shards by-thread backlog 4096 ssl crt $tmp/inside.pem ca-file $tmp/ca.pem verify required ssl-min-ver TLSv1.3 no-tls-tickets alpn http/1.1
		server origin 127.0.0.1:$K_PORT pool-max-conn -1
	CONF
	/usr/sbin/haproxy -db -f "$tmp/haproxy.cfg" </dev/null >>log 2>&1 9>&- &
}
start() { # peer
	"start_${1//-/_}"
	server=$!
	listens "$T_PORT" || { say "bench: $1 does not start:"; tail -n 5 log >&2; stop "$server"; server=""; return 1; }
	sleep 0.5
}
ask() { # curl's further arguments
	curl -s -m 10 -o /dev/null -w '%{http_code}' --cacert ca.pem --connect-to "::127.0.0.1:$T_PORT" "$@" https://bench.local/small
}

"$build/tests/bench/origin" "127.0.0.1:$K_PORT" </dev/null >>log 2>&1 9>&- &
origin=$!
listens "$K_PORT" || { say "bench: the origin does not start"; exit 1; }
good=()
for p in $peers; do
	case $p in nginx | haproxy) [ -x "/usr/sbin/$p" ] || { say "bench: $p is not here, left out"; continue; } ;; esac
	start "$p" || continue
	if [ "$(ask --cert client.crt --key client.key)" != 200 ] || [ "$(ask)" = 200 ]; then
		say "bench: $p: wrong answers, left out"
	else
		good+=("$p")
	fi
	stop "$server"
	server=""
done
for round in $(seq "$rounds"); do
	for i in $(seq 0 $((${#good[@]} - 1))); do
		p=${good[(i + round - 1) % ${#good[@]}]}
		start "$p" || continue
		line=$("$build/tests/bench/handshake" load -t "127.0.0.1:$T_PORT" -C client.crt -K client.key -S ca.pem -N bench.local \
			-A "$(ids "$server")" -O "$(ids "$origin")" 2>>log)
		[ -n "$line" ] || line='{"ok":0,"err":1,"why":"the client failed"}'
		printf '{"peer":"%s","round":%s,%s\n' "$p" "$round" "${line#\{}" >>"$results"
		stop "$server"
		server=""
	done
done
python3 - "$results" <<'REPORT' | tee "$out/handshakes.md"
import json, sys
from collections import defaultdict
from statistics import median

rows = defaultdict(list)
for line in open(sys.argv[1]):
    r = json.loads(line)
    if r["ok"] and not r["err"]:
        rows[r["peer"]].append(r)
    else:
        print("\n! %s round %d: %d good, %d bad: %s" % (r["peer"], r["round"], r["ok"], r["err"], r.get("why")))
rate = {p: median(x["ok"] / x["secs"] for x in v) for p, v in rows.items()}
cost = {p: median(x["cpu_a"] / x["ok"] * 1e6 for x in v) for p, v in rows.items()}
peers = [p for p in rows if p not in ("sallyport", "in-process")]
print("\n### Handshakes: mutual TLS 1.3, a connection per request, 32 at a time, 2 workers\n")
print("| server | handshakes/s | rate over the best peer's | CPU µs each | CPU over the best peer's | p50, p99 ms |\n|---|---|---|---|---|---|")
for p in sorted(rows, key=rate.get, reverse=True):
    r = rows[p]
    print("| %s | %.0f ±%.0f %% | %s | %.0f | %s | %.1f, %.1f |" % (
        "**%s**" % p if p == "sallyport" else p, rate[p], (max(x["ok"] / x["secs"] for x in r) - min(x["ok"] / x["secs"] for x in r)) / 2 / rate[p] * 100,
        "%.2f" % (rate[p] / max(rate[q] for q in peers)) if peers else "-", cost[p],
        "%.2f" % (cost[p] / min(cost[q] for q in peers)) if peers else "-",
        median(x["p50"] for x in r) / 1000, median(x["p99"] for x in r) / 1000))
REPORT
