#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# demo.sh [-k] BUILD - two domains on this machine, shown step by step.
#
# Exit 0 only if each step gave what it should. Nothing stays running, but with -k everything does, and how to play
# with it and how to stop it is printed. Without root, 8443 stands for 443.
set -u
keep=0
[ "${1:-}" = -k ] && { keep=1; shift; }
cd "$(dirname "$0")/.." || exit 2
B=${1:-build}
if [ -z "${MAKELEVEL:-}" ]; then # called by hand: build, as the Makefile does
	tools/deps.sh build demo && make --no-print-directory -j"$(nproc 2>/dev/null || echo 2)" demo-build || exit 1
fi

sallyportd=$B/sallyportd gwctl=$B/gwctl
D=$B/demo pidfile=$B/demo.pids
began=$SECONDS
[ -t 1 ] && bold=$'\e[1m' dim=$'\e[2m' good=$'\e[32m' bad=$'\e[31m' plain=$'\e[0m' || bold='' dim='' good='' bad='' plain=''

port=443
[ "$(id -u)" = 0 ] || port=8443
hud=127.10.0.1 hud_inside=127.10.0.2 irs=127.20.0.1 service=127.20.0.20

pids=()
stop() {
	local p
	for p in "${pids[@]}"; do kill -TERM "$p" 2>/dev/null; done
	for p in "${pids[@]}"; do
		for _ in $(seq 50); do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
		kill -KILL "$p" 2>/dev/null
		wait "$p" 2>/dev/null
	done
	pids=()
}
die() {
	printf '%s\n' "${bad}demo: $*$plain" >&2
	exit 1
}
finish() {
	local rc=$?
	[ $rc = 0 ] && [ $keep = 1 ] && return
	if [ $rc != 0 ] && [ ${#pids[@]} -gt 0 ]; then
		for log in "$D"/hud/log "$D"/irs/log; do [ -s "$log" ] && { echo "--- $log" >&2; tail -n 15 "$log" >&2; }; done
	fi
	stop
	rm -f "$pidfile"
	[ "$D" = "$B/demo" ] || rm -rf "$D"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

answers() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }
if [ -s "$pidfile" ]; then
	for p in $(cat "$pidfile"); do
		if [ -d "/proc/$p" ] && grep -qaE 'sallyportd|demo/service' "/proc/$p/cmdline"; then
			trap - EXIT
			die "one is still up; stop it with: kill $(cat "$pidfile")"
		fi
	done
fi
if answers $hud $port || answers $irs $port; then
	port=8443
	{ answers $hud $port || answers $irs $port; } && die "ports 443 and 8443 of $hud or $irs are taken"
fi
for p in $hud:5432 $service:8080 $service:5432; do
	answers "${p%:*}" "${p#*:}" && die "$p is taken by another program"
done
# A Unix socket's path has 107 octets: from a deep folder, work below /tmp.
case $(pwd)/$D in ????????????????????????????????????????????????????????????????????????????????????*) D=$(mktemp -d /tmp/sallyport-demo.XXXXXX) ;; esac
rm -rf "$D" 2>/dev/null
mkdir -p "$D"/hud/policy.d "$D"/irs/policy.d "$D"/hud/journal "$D"/irs/journal || die "cannot make $D; remove what another user left there"

step=0 failed=0
title() {
	step=$((step + 1))
	printf '\n%s%d. %s%s\n' "$bold" $step "$*" "$plain"
}
# Shows a command as a reader can copy it, runs it, and keeps what it said in $said and its exit code in $code.
run() {
	printf '%s   $ %s%s\n' "$dim" "$1" "$plain"
	said=$(eval "$1" 2>&1)
	code=$?
	[ -z "$said" ] || sed 's/^/     /' <<<"$said"
}
quietly() { # the same, only its last line
	printf '%s   $ %s%s\n' "$dim" "$1" "$plain"
	said=$(eval "$1" 2>&1)
	code=$?
	if [ $code = 0 ]; then sed -n '1s/^/     /p' <<<"$said"; else sed 's/^/     /' <<<"$said"; fi
}
expect() { # what, then a test
	local what=$1
	shift
	if "$@"; then printf '   %s✓ %s%s\n' "$good" "$what" "$plain"
	else
		printf '   %s✗ %s%s\n' "$bad" "$what" "$plain"
		failed=$((failed + 1))
	fi
}
has() { grep -qE -- "$1" <<<"$said"; }
hasnt() { ! has "$1"; }
ok() { [ $code = 0 ]; }

echo "${bold}Sallyport: hud.example ══ one port, mutual TLS ══ irs.example${plain}"
echo "An application of hud.example calls services of irs.example. Gateway A is hud.example's, B is irs.example's;"
echo "both decide, both keep a book. Each command can be copied, once \"make demo KEEP=1\" leaves both up."

# ---------------------------------------------------------------------------------------------
title "Each domain makes its own CA, and certificates for its gateway and its application"
quietly "$gwctl pki init hud.example --dir $D/hud/pki"; ok || die "pki init failed"
quietly "$gwctl pki init irs.example --dir $D/irs/pki"; ok || die "pki init failed"
quietly "$gwctl pki issue gateway dmz1 --dir $D/hud/pki --out $D/hud/pki/gateway"; ok || die "pki issue failed"
quietly "$gwctl pki issue gateway dmz1 --dir $D/irs/pki --out $D/irs/pki/gateway"; ok || die "pki issue failed"
quietly "$gwctl pki issue gateway dmz1 --dir $D/hud/pki --out $D/hud/pki/inside --dns tax.irs.example"; ok || die "pki issue failed"
quietly "$gwctl pki issue workload permit-svc --dir $D/hud/pki --out $D/hud/pki/permit-svc"; ok || die "pki issue failed"

# ---------------------------------------------------------------------------------------------
# Both configurations; the second part is written once the domains are paired, because it names the peer.
head_of() { # domain
	cat <<-CONF
	# Sallyport's demo: the gateway of $1
	domain   = "$1";
	identity = { certificate = "pki/gateway.crt"; key = "pki/gateway.key"; bundle = "pki/$1.pem"; };
	workers  = 1;
	user_prefix = "61000";   # as root, roles run as users 61000 and up, which need no names
	journal  = { directory = "journal"; };
	control  = { socket = "control.sock"; };
	CONF
}
hud_conf() { # tail
	cat <<-CONF
	$(head_of hud.example)
	inside   = { certificate = "pki/inside.crt"; key = "pki/inside.key"; };
	listeners = (
	  { name = "tunnel"; address = "$hud:$port"; accept = [ "peers" ]; },
	  { name = "inside"; address = "$hud_inside:$port"; accept = [ "workloads" ]; }$1
	CONF
}
irs_conf() { # tail
	cat <<-CONF
	$(head_of irs.example)
	listeners = ( { name = "tunnel"; address = "$irs:$port"; accept = [ "peers" ]; } );$1
	CONF
}
hud_conf '
);' >"$D/hud/sallyport.conf"
irs_conf '' >"$D/irs/sallyport.conf"
cat >"$D/hud/policy.d/10-tax.conf" <<'CONF'
# Gateway A: what may leave hud.example.
allow = (
	{ name = "permits-read-taxes"; principals = [ "spiffe://hud.example/permit-svc" ]; services = [ "tax" ];
	  methods = [ "GET" ]; paths = [ "/v1/**" ]; },
	{ name = "operator-books"; principals = [ "spiffe://hud.example/operator" ]; services = [ "ledger" ]; assurance = [ "uid" ]; }
);
CONF
cat >"$D/irs/policy.d/10-tax.conf" <<'CONF'
# Gateway B: what may enter irs.example. Narrower than A's: /v1/audit is not for other domains.
allow = (
	{ name = "hud-reads-taxes"; principals = [ "spiffe://hud.example/permit-svc" ]; services = [ "tax" ];
	  methods = [ "GET" ]; paths = [ "/v1/taxes/*" ]; },
	{ name = "hud-books"; principals = [ "spiffe://hud.example/operator" ]; services = [ "ledger" ]; assurance = [ "uid" ]; }
);
CONF

title "The operators pair the domains: a signed file each, and a code told by phone"
run "$gwctl -c $D/irs/sallyport.conf pair export --dir $D/irs/pki --out $D/irs.pair"
ok || die "pair export failed"
irs_code=$(sed -n 's/^ *code *//p' <<<"$said" | head -n 1)
quietly "$gwctl -c $D/hud/sallyport.conf pair export --dir $D/hud/pki --out $D/hud.pair"
ok || die "pair export failed"
hud_code=$($gwctl pair show "$D/hud.pair" | sed -n 's/^ *code *//p' | head -n 1)
quietly "$gwctl -c $D/hud/sallyport.conf pair accept $D/irs.pair --code '$irs_code' --name irs"
expect "hud.example knows irs.example's CA, gateway and address" ok
quietly "$gwctl -c $D/irs/sallyport.conf pair accept $D/hud.pair --code '$hud_code' --name hud --no-dial"
expect "irs.example knows hud.example's" ok
[ $failed = 0 ] || die "pairing failed"

hud_conf ",
  { name = \"ledger\"; address = \"$hud:5432\"; accept = [ \"tcp\" ]; service = \"ledger\";
    clients = ( { uid = \"$(id -u)\"; principal = \"spiffe://hud.example/operator\"; } ); }
);
peers_dir = \"peers\";   # what was accepted
services = (
  { name = \"tax\"; host = \"tax.irs.example\"; via = \"irs\"; },
  { name = \"ledger\"; host = \"ledger.irs.example:5432\"; kind = \"tcp\"; via = \"irs\"; }
);" >"$D/hud/sallyport.conf"
irs_conf "
peers = ( { name = \"hud\"; domain = \"hud.example\"; bundle = \"peers/hud.example.pem\";
            gateways = [ \"spiffe://hud.example/gateway/dmz1\" ];
            assert = [ \"uid\" ]; } );   # believed when it says which user of its host calls
services = (
  { name = \"tax\"; host = \"tax.irs.example\"; endpoints = [ \"$service:8080\" ]; },
  { name = \"ledger\"; host = \"ledger.irs.example:5432\"; kind = \"tcp\"; endpoints = [ \"$service:5432\" ]; }
);" >"$D/irs/sallyport.conf"

# ---------------------------------------------------------------------------------------------
title "Two gateways start, and a small service behind the second"
start() { # log, command...
	local log=$1
	shift
	printf '%s   $ %s &%s\n' "$dim" "$*" "$plain"
	if [ $keep = 1 ]; then
		# A session of its own: the demo's end is no end for it.
		setsid "$@" </dev/null >>"$log" 2>&1 &
	else
		"$@" </dev/null >>"$log" 2>&1 &
	fi
	pids+=($!)
}
start "$D/service.log" "$B/tools/demo/service" $service 8080 5432
start "$D/irs/log" "$sallyportd" -f -c "$D/irs/sallyport.conf"
start "$D/hud/log" "$sallyportd" -f -c "$D/hud/sallyport.conf"
echo "${pids[*]}" >"$pidfile"
up=0
for _ in $(seq 150); do
	for p in "${pids[@]}"; do kill -0 "$p" 2>/dev/null || die "a process ended"; done
	if $gwctl -c "$D/hud/sallyport.conf" peers --json 2>/dev/null | grep -q '"ready"' && $gwctl -c "$D/irs/sallyport.conf" status >/dev/null 2>&1; then
		up=1
		break
	fi
	sleep 0.1
done
[ $up = 1 ] || die "the gateways did not link up within 15 s"
run "$gwctl -c $D/hud/sallyport.conf peers"
expect "linked with irs.example over $irs:$port" ok

curl="curl -sS -m 10 --cert $D/hud/pki/permit-svc.crt --key $D/hud/pki/permit-svc.key --cacert $D/hud/pki/hud.example.pem --connect-to ::$hud_inside:$port"
result="-w '(status %{http_code})\n'"

title "A call that both gateways allow"
run "$curl $result https://tax.irs.example/v1/taxes/7"
expect "200, and the service knows who calls" has '\(status 200\)'
expect "the body is the service's" has '"caller": "spiffe://hud.example/permit-svc"'
allowed=$(sed -n 's/.*"exchange": "\([^"]*\)".*/\1/p' <<<"$said")

title "A call that gateway A denies: its rules allow permit-svc to read, not to delete"
run "$curl $result -X DELETE https://tax.irs.example/v1/taxes/7"
expect "403, and no reason is told to the caller" has '\(status 403\)'
run "$gwctl -c $D/hud/sallyport.conf policy test --principal spiffe://hud.example/permit-svc --service tax --method DELETE --path /v1/taxes/7"
expect "gwctl tells the operator why" has 'deny'

title "A call that gateway A allows, and gateway B alone denies: /v1/audit is not for other domains"
run "$curl $result https://tax.irs.example/v1/audit"
expect "403, in the same words: which gateway denied, and why, is for the operators" has '\(status 403\)'
run "$gwctl -c $D/hud/sallyport.conf policy test --principal spiffe://hud.example/permit-svc --service tax --method GET --path /v1/audit"
expect "A would allow it" ok
run "$gwctl -c $D/irs/sallyport.conf policy test --principal spiffe://hud.example/permit-svc --service tax --method GET --path /v1/audit"
expect "B denies it" [ $code = 1 ]

title "A raw TCP exchange: who calls is known by the user that owns the connection"
run "bash -c \"exec 3<>/dev/tcp/$hud/5432; echo '100 for permit 7' >&3; head -n 1 <&3\""
expect "the ledger's answer crossed" has '^booked: 100 for permit 7'

title "Both books: unbroken, and they agree"
sleep 0.5
run "$gwctl -c $D/hud/sallyport.conf audit verify $D/hud/journal"
expect "A's book is unbroken" ok
run "$gwctl -c $D/irs/sallyport.conf audit verify $D/irs/journal"
expect "B's book is unbroken" ok
run "$gwctl audit reconcile $D/hud/journal $D/irs/journal"
expect "each exchange is in both, and nothing else is" ok
run "$gwctl audit show $allowed $D/hud/journal"
expect "A's book on the allowed call: who, what, by which rule" has 'rule +permits-read-taxes'
run "$gwctl audit show $allowed $D/irs/journal | grep -E 'verdict|principal|assurance|rule|endpoint'"
expect "B's book on the same" has 'rule +hud-reads-taxes'

# ---------------------------------------------------------------------------------------------
echo
if [ $failed != 0 ]; then
	die "$failed of the things above are not as they should be"
fi
printf '%sAll as it should be%s, in %d s.\n' "$good" "$plain" $((SECONDS - began))
if [ $keep = 1 ]; then
	disown -a
	cat <<-TEXT

	It is up. To play with it:
	  $curl https://tax.irs.example/v1/taxes/8
	  $gwctl -c $D/irs/sallyport.conf status
	  \$EDITOR $D/irs/policy.d/10-tax.conf; $gwctl -c $D/irs/sallyport.conf reload
	  tail -f $D/irs/journal/*.log
	To stop it:
	  kill ${pids[*]}
	TEXT
	[ "$D" = "$B/demo" ] || echo "and then: rm -r $D"
fi
