#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# How far the sources are from .clang-format. Advice: versions of the tool differ, and a table may be laid by hand.
cd "$(dirname "$0")/../.." || exit 2
long=$(grep -cE '^.{161,}$' -r --include='*.[ch]' gateway policy pki tools | awk -F: '{n += $2} END {print n + 0}')
command -v clang-format >/dev/null || { echo "note: no clang-format here"; exit 0; }
n=$(find gateway policy pki tools -name '*.[ch]' -exec clang-format --dry-run --ferror-limit=1 {} + 2>&1 | grep -c 'warning:')
echo "note: $n files differ from .clang-format (advice only), $long lines beyond 160 columns"
exit 0
