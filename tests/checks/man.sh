#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Manual pages are clean, and each option of the daemon and of its configuration is in one (subcommands: man-commands.sh).
cd "$(dirname "$0")/../.." || exit 2
B=${B:-build}
command -v mandoc >/dev/null || { echo "no mandoc here"; exit 77; }
bad=0
for m in man/sallyportd.8 man/gwctl.1 man/sallyport.conf.5 man/sallyport-policy.5; do
	[ -s "$m" ] || { echo "$m: missing"; bad=1; continue; }
	# A reference to another of our own pages is no fault before they are installed.
	out=$(mandoc -Tlint -W warning "$m" | grep -v 'referenced manual not found')
	[ -z "$out" ] || { echo "$out"; bad=1; }
done
[ $bad = 0 ] || exit 1
if [ -x "$B/sallyportd" ]; then
	text=$(mandoc -Tascii man/sallyportd.8 | sed 's/.\x08//g')
	for opt in -c -t -f; do
		grep -q -- "$opt" <<<"$text" || { echo "man/sallyportd.8: does not speak of $opt"; bad=1; }
	done
fi
# Each option of the configuration and of policy files.
text=$(for m in man/sallyport.conf.5 man/sallyport-policy.5; do mandoc -Tascii $m; done | sed 's/.\x08//g')
for word in $(grep -oE '^[[:space:]]*\{ "[a-z][a-z_]*", OPTION_[A-Z0-9]+, (OPTION_[A-Z_]+, )?[^D]*\.off' gateway/config/options.c | grep -v DERIVED |
	grep -oE '"[a-z_]+"' | tr -d '"' | sort -u); do
	grep -qw -- "$word" <<<"$text" || { echo "man: no page speaks of the option \"$word\""; bad=1; }
done
exit $bad
