# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
# Our pair: 1,000 rules on either side, the journal on, one worker each. It brings its own PKI, for its ids are SPIFFE's.
PEER_KIND=http PEER_TLS=own PEER_CHROOT=""
peer_check() { [ -x "${OURS:=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)/build}/sallyportd" ]; }
_ours_rules() { # services...
	local i
	echo 'allow = ('
	for i in $(seq 999); do
		echo "  { name = \"rule-$i\"; principals = [ \"spiffe://a.example/app-$i\" ]; services = [ \"bench\" ]; methods = [ \"GET\" ]; paths = [ \"/v1/part-$i/*\" ]; },"
	done
	echo '  { name = "bench"; principals = [ "spiffe://a.example/client" ]; services = [ "bench", "bench-ip" ]; assurance = [ "address", "mtls" ]; }'
	echo ');'
}
_ours_head() { # side
	cat <<-CONF
	domain = "$1.example";
	identity = { certificate = "gateway.crt"; key = "gateway.key"; bundle = "bundle.pem"; };
	user_prefix = "61000";
	workers = 1;
	journal = { directory = "journal"; };
	control = { socket = "control.sock"; };
	limits = { connections_per_source = 100000; handshakes_per_source = 100000; handshakes = 10000; };
	CONF
}
_ours_make() {
	local s
	rm -rf "$RUN/ours" && mkdir -p "$RUN/ours"
	for s in a b; do
		mkdir -p "$RUN/ours/$s/policy.d" "$RUN/ours/$s/journal"
		"$OURS/gwctl" pki init $s.example --dir "$RUN/ours/$s/pki" >/dev/null || return 1
		"$OURS/gwctl" pki issue gateway dmz1 --dir "$RUN/ours/$s/pki" --out "$RUN/ours/$s/gateway" >/dev/null || return 1
		"$OURS/gwctl" pki bundle --dir "$RUN/ours/$s/pki" >"$RUN/ours/$s/bundle.pem" || return 1
		_ours_rules >"$RUN/ours/$s/policy.d/bench.conf"
	done
	"$OURS/gwctl" pki issue gateway dmz1 --dir "$RUN/ours/a/pki" --out "$RUN/ours/a/inside" --dns bench.local >/dev/null || return 1
	"$OURS/gwctl" pki issue workload client --dir "$RUN/ours/a/pki" --out "$RUN/ours/a/client" >/dev/null || return 1
	cp "$RUN/ours/a/bundle.pem" "$RUN/ours/b/peer.pem"
	cp "$RUN/ours/b/bundle.pem" "$RUN/ours/a/peer.pem"
	{
		_ours_head a
		cat <<-CONF
		inside = { certificate = "inside.crt"; key = "inside.key"; };
		listeners = (
		  { name = "plain"; address = "127.0.0.1:$A_PORT"; accept = [ "plaintext" ];
		    clients = ( { address = "127.0.0.1/32"; principal = "spiffe://a.example/client"; allow_local = true; } ); },
		  { name = "inside"; address = "127.0.0.1:${I_PORT:-$((A_PORT + 100))}"; accept = [ "workloads" ]; } );
		peers = ( { name = "b"; domain = "b.example"; bundle = "peer.pem"; revocation = "off";
		            gateways = [ "spiffe://b.example/gateway/dmz1" ]; dial = [ "127.0.0.1:$B_PORT" ]; } );
		services = ( { name = "bench"; host = "bench.local"; via = "b"; },
		             { name = "bench-ip"; host = "127.0.0.1:$A_PORT"; via = "b"; } );
		CONF
	} >"$RUN/ours/a/sallyport.conf"
	{
		_ours_head b
		cat <<-CONF
		listeners = ( { name = "tunnel"; address = "127.0.0.1:$B_PORT"; accept = [ "peers" ]; } );
		peers = ( { name = "a"; domain = "a.example"; bundle = "peer.pem"; revocation = "off"; assert = [ "address" ];
		            gateways = [ "spiffe://a.example/gateway/dmz1" ]; } );
		services = ( { name = "bench"; host = "bench.local"; endpoints = [ "127.0.0.1:$K_PORT" ]; max_connections = 4096; },
		             { name = "bench-ip"; host = "127.0.0.1:$A_PORT"; endpoints = [ "127.0.0.1:$K_PORT" ]; max_connections = 4096; } );
		CONF
	} >"$RUN/ours/b/sallyport.conf"
}
peer_start() {
	_ours_make || return 1
	spawn B "$OURS/sallyportd" -f -c "$RUN/ours/b/sallyport.conf"
	spawn A "$OURS/sallyportd" -f -c "$RUN/ours/a/sallyport.conf"
	# Ready when a call crosses: the link is there then, and every role.
	for _ in $(seq 100); do
		[ "$(curl -s -m 2 -o /dev/null -w '%{http_code}' -H 'Host: bench.local' "http://127.0.0.1:$A_PORT/small")" = 200 ] && return
		sleep 0.1
	done
}
