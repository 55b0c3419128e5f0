# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
# An nghttpx pair with h2 between them. No access log is named: with /dev/null it would still format each line.
PEER_TLS=yes PEER_KIND=http
peer_check() { command -v nghttpx >/dev/null; }
peer_start() {
	local both=(--conf=/dev/null --workers=1 --log-level=ERROR --errorlog-file="$RUNIN/nghttpx.err" --no-via --no-server-rewrite
		--tls-min-proto-version=TLSv1.3 --tls-max-proto-version=TLSv1.3 --rlimit-nofile="$FDS" --backlog=4096
		--frontend-read-timeout=900s --frontend-keep-alive-timeout=900s --backend-read-timeout=900s --backend-keep-alive-timeout=900s
		--frontend-http2-window-size=1M --frontend-http2-connection-window-size=16M
		--backend-http2-window-size=1M --backend-http2-connection-window-size=16M --frontend-http2-max-concurrent-streams=1000)
	nghttpx --help | grep -q -- --frontend-http2-read-timeout && both+=(--frontend-http2-read-timeout=900s)
	spawn B nghttpx -f"127.0.0.1,$B_PORT" -b"127.0.0.1,$K_PORT;;proto=http/1.1" "${both[@]}" --verify-client \
		--verify-client-cacert="$RUNIN/certs/ca.crt" "$RUNIN/certs/$B_CERT.key" "$RUNIN/certs/$B_CERT.crt"
	spawn A nghttpx -f"127.0.0.1,$A_PORT;no-tls" -b"127.0.0.1,$B_PORT;;tls;proto=h2;sni=gateway-b" "${both[@]}" \
		--cacert="$RUNIN/certs/ca.crt" --client-cert-file="$RUNIN/certs/$A_CERT.crt" --client-private-key-file="$RUNIN/certs/$A_CERT.key"
}
