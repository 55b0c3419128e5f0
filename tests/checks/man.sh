#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Manual pages are clean, and each option and subcommand that the programs print in their help is in one.
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
if [ -x "$B/gwctl" ]; then
	text=$(mandoc -Tutf8 man/gwctl.1 | col -b 2>/dev/null || mandoc -Tascii man/gwctl.1)
	# The help's command lines are indented by two spaces and start with the command.
	for word in $("$B/gwctl" help 2>/dev/null | sed -nE 's/^  ([a-z][a-z-]*)( .*)?$/\1/p' | sort -u); do
		grep -qw -- "$word" <<<"$text" || { echo "man/gwctl.1: does not speak of the subcommand \"$word\""; bad=1; }
	done
fi
if [ -x "$B/sallyportd" ]; then
	text=$(mandoc -Tascii man/sallyportd.8 | col -b 2>/dev/null)
	for opt in -c -t -f; do
		grep -q -- "$opt" <<<"$text" || { echo "man/sallyportd.8: does not speak of $opt"; bad=1; }
	done
fi
# Each option of the configuration.
if [ -x "$B/gwctl" ] && [ -s gateway/config/options.c ]; then
	text=$(mandoc -Tascii man/sallyport.conf.5 | col -b 2>/dev/null)
	for word in $(grep -oE '^[[:space:]]*[A-Z_]*\(?\{? ?"[a-z][a-z_]*"' gateway/config/options.c | grep -oE '[a-z][a-z_]+' | sort -u); do
		grep -qw -- "$word" <<<"$text" || { echo "man/sallyport.conf.5: does not speak of the option \"$word\""; bad=1; }
	done
fi
exit $bad
