#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A folder includes only folders below it. One line per folder: what it may include besides itself.
# (Link-time proof of the same: `make roles`, and each unit test's object list.)
cd "$(dirname "$0")/../.." || exit 2
table='
gateway/base      :
gateway/http1     : gateway/base
policy            : gateway/base
pki               : gateway/base
gateway/process   : gateway/base
gateway/config    : gateway/base policy pki
gateway/io        : gateway/base gateway/http1
gateway/http2     : gateway/base gateway/http1 gateway/io
gateway/keys      : gateway/base gateway/process gateway/config pki
gateway/audit     : gateway/base gateway/process gateway/config
gateway/ca        : gateway/base gateway/process gateway/config gateway/io gateway/audit pki
gateway/tls       : gateway/base gateway/process gateway/config pki gateway/http1 gateway/io gateway/keys
gateway/link      : gateway/base gateway/process gateway/config policy pki gateway/http1 gateway/http2 gateway/io gateway/audit gateway/tls
gateway/upstream  : gateway/base gateway/process gateway/config gateway/http1 gateway/io gateway/audit
gateway/enrol     : gateway/base gateway/process gateway/config pki gateway/http1 gateway/io gateway/keys gateway/audit gateway/tls gateway/ca
gateway/exchange  : gateway/base gateway/process gateway/config policy pki gateway/http1 gateway/http2 gateway/io gateway/keys gateway/audit gateway/tls gateway/link gateway/upstream gateway/enrol
gateway/control   : gateway/base gateway/process gateway/config gateway/io gateway/audit policy
gateway/main      : gateway/base gateway/process gateway/config policy pki gateway/io gateway/keys gateway/audit gateway/tls gateway/link gateway/upstream gateway/exchange gateway/control gateway/ca gateway/enrol
tools/gwctl       : gateway/base gateway/config gateway/audit gateway/http1 gateway/enrol policy pki
'
bad=0
while read -r folder _ may; do
	[ -n "$folder" ] || continue
	for f in "$folder"/*.[ch]; do
		[ -e "$f" ] || continue
		while read -r inc; do
			dir=${inc%/*}
			case $inc in
			*/*) ;;
			*) echo "$f: includes \"$inc\"; include by path from the root"; bad=1; continue ;;
			esac
			[ "$dir" = "$folder" ] && continue
			case " $may " in
			*" $dir "*) ;;
			*) echo "$f: includes $inc, but $folder may include only:${may:+ }${may:- nothing}"; bad=1 ;;
			esac
		done < <(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' "$f")
	done
done <<<"$table"
# Nobody is left out of the table.
for d in $(find gateway policy pki tools -name '*.[ch]' -printf '%h\n' | sort -u); do
	grep -qE "^$d +:" <<<"$table" || case $d in
	tools/demo) ;; # a program of one file, which includes nothing of ours
	*) echo "$d: not in the table of tests/checks/layers.sh"; bad=1 ;;
	esac
done
exit $bad
