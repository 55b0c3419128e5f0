#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Simple mistakes that a grep can find.
cd "$(dirname "$0")/../.." || exit 2
bad=0
find_in() { # what to say, pattern, paths...
	local why=$1 pattern=$2 out
	shift 2
	out=$(grep -nE "$pattern" -r --include='*.c' --include='*.h' "$@" | grep -vE 'check: allow|^gateway/base/mem\.c:')
	[ -z "$out" ] || { echo "$why:"; echo "$out"; bad=1; }
}
src="gateway policy pki tools"
# shellcheck disable=SC2086 # words
{
find_in "unfinished" '\b(TODO|FIXME)\b' $src tests
find_in "functions without a bound" '\b(strcat|vsprintf|gets|alloca|strtok)\(' $src
find_in "numbers parsed without an error" '\b(atoi|atol|atoll|atof)\(' gateway policy pki tools/gwctl
find_in "memory other than by the allocator wrapper" '[^_a-z](malloc|calloc|realloc|strdup|strndup)\(' gateway policy pki tools/gwctl
find_in "memcmp of a secret: use a constant-time one" 'memcmp\([^)]*(secret|\bmac\b|key_?bytes)' $src
find_in "trailing white space" '[[:space:]]$' $src tests
}
exit $bad
