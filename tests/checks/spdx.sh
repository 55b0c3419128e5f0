#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Each file says its licence in its first lines. Markdown, the licence itself and seeds for fuzzing cannot or need not.
cd "$(dirname "$0")/../.." || exit 2
bad=0
while read -r f; do
	case $f in
	*.md | LICENSE | .gitignore | tests/fuzz/corpus/* | tests/data/*) continue ;;
	esac
	[ -s "$f" ] || continue
	head -n 3 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' || { echo "$f: no SPDX-License-Identifier in its first lines"; bad=1; }
done < <(git ls-files 2>/dev/null || find . -path ./build -prune -o -type f -print)
exit $bad
