#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# check-man-commands.sh [GWCTL] - each subcommand in gwctl's table has an entry in gwctl(1), each entry there is in the
# table, and the table agrees with what the subcommands themselves offer. So do the options of sallyportd and its page.
cd "$(dirname "$0")/.." || exit 2
B=${B:-build}
gwctl=${1:-$B/gwctl} daemon=$B/sallyportd
[ -x "$gwctl" ] || { echo "no $gwctl: build it first"; exit 77; }
bad=0
differ() { # what, where both are, left only, right only
	[ -z "$2" ] || { echo "$1: $(tr '\n' ' ' <<<"$2")"; bad=1; }
}

table=$("$gwctl" help --names | sort)
# ".It Ic policy test ..." and ".Ic policy test" after ".It Xo"; macros and arguments end the name.
page=$(sed -nE 's/^\.(It )?Ic ([a-z][a-z -]*).*/\2/p' man/gwctl.1 | sed -E 's/ +$//' | sort -u)
groups=$(sed -nE 's/^([a-z-]+) .*/\1/p' <<<"$table" | sort -u) # "policy" is there by "policy check"
differ "in gwctl's table but not in man/gwctl.1" "$(comm -23 <(comm -23 <(echo "$table") <(echo "$groups")) <(echo "$page"))"
differ "in man/gwctl.1 but not in gwctl's table" "$(comm -13 <(echo "$table") <(echo "$page"))"
for g in $groups; do
	offers=$("$gwctl" "$g" 2>&1 | sed -nE "s/^  gwctl ($g [a-z-]+) .*/\1/p" | sort)
	listed=$(grep "^$g " <<<"$table" | sort)
	[ "$offers" = "$listed" ] || { echo "gwctl $g offers: $offers; the table has: $listed"; bad=1; }
done
# Long options that the subcommands read are in gwctl(1) or the subcommand's own page.
for f in tools/gwctl/cmd_*.c; do
	while read -r opt; do
		cat man/gwctl*.1 | grep -qE "Fl -$opt( |$)" || { echo "$f: --$opt is in no man page"; bad=1; }
	done < <(grep -oE '\{ ?"[a-z-]+", (no|required)_argument' "$f" | sed -E 's/.*"([a-z-]+)".*/\1/' | sort -u)
done
if [ -x "$daemon" ]; then
	has=$("$daemon" -h | grep -oE '^  -[a-z]' | tr -d ' -' | sort)
	says=$(sed -nE 's/^\.It Fl ([a-z])( .*)?$/\1/p' man/sallyportd.8 | sort)
	differ "options of sallyportd that its page does not have" "$(comm -23 <(echo "$has") <(echo "$says"))"
	differ "options in man/sallyportd.8 that it does not have" "$(comm -13 <(echo "$has") <(echo "$says"))"
fi
exit $bad
