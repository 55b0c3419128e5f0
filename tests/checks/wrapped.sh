#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Library headers appear only in the folders that wrap the library, so that it can be replaced there.
cd "$(dirname "$0")/../.." || exit 2
bad=0
only() { # header pattern, folders that may
	local pattern=$1 f d
	shift
	while read -r f; do
		d=${f%/*}
		for ok; do [ "$d" = "$ok" ] && continue 2; done
		echo "$f: includes <$pattern…>, which only $* may"
		bad=1
	done < <(grep -lE "^[[:space:]]*#[[:space:]]*include[[:space:]]*<($pattern)" -r --include='*.[ch]' gateway policy pki tools)
}
only 'openssl/' gateway/tls gateway/keys gateway/audit pki gateway/base tools/gwctl
only 'nghttp2/' gateway/http2 gateway/link
only 'event2/|event\.h|evutil' gateway/io
only 'libconfig' gateway/config
only 'seccomp|linux/landlock|linux/seccomp' gateway/process
only 'jansson' gateway/control gateway/main pki tools/gwctl
# Of OpenSSL, base needs digests and random bytes, and nothing of TLS or X.509.
if grep -nE '#[[:space:]]*include[[:space:]]*<openssl/(ssl|x509|pem|engine|provider)' -r gateway/base; then
	echo "gateway/base: includes OpenSSL beyond digests and random bytes"
	bad=1
fi
exit $bad
