#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Shell scripts parse; and shellcheck, where it is installed, finds nothing to say.
cd "$(dirname "$0")/../.." || exit 2
bad=0
mapfile -t scripts < <(grep -lIE '^#!/(usr/)?bin/(env )?(ba)?sh' -r .ci conf packaging tests tools 2>/dev/null | sort -u)
for s in "${scripts[@]}"; do bash -n "$s" || bad=1; done
if command -v shellcheck >/dev/null; then
	shellcheck -S warning "${scripts[@]}" || bad=1
else
	echo "note: no shellcheck here, only parsed"
fi
exit $bad
