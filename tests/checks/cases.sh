#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Which cases of ACCEPTANCE have a test that names them. Reports only: the list grows with the product.
cd "$(dirname "$0")/../.." || exit 2
want="$(seq 22 36) 38 39 $(seq 41 62) 64 65 66 67 71 72 74 78 84 85 $(seq 86 90) 92 93 94"
named=$(grep -rhoiE 'cases? [0-9]+([-–, and]+[0-9]+)*' tests/unit tests/e2e tests/fuzz tests/fault 2>/dev/null | while read -r _ rest; do
	# "22-29, 33 and 37" becomes one number per line.
	sed 's/–/-/g; s/and/,/g; s/ //g; s/,,*/\n/g' <<<"$rest" | while IFS=- read -r a b; do
		[[ $a =~ ^[0-9]+$ ]] && seq "$a" "${b:-$a}" 2>/dev/null
	done
done | sort -nu)
missing=()
for n in $want; do grep -qx "$n" <<<"$named" || missing+=("$n"); done
echo "named: $(tr '\n' ' ' <<<"$named")"
echo "note: $(wc -w <<<"$named") cases have a test${missing[*]:+; none yet for ${missing[*]}}"
