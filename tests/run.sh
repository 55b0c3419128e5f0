#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [unit] [style] [e2e] [-- pytest arguments] - run built tests and sum them up.
#
# From the environment: B, the build directory; UNIT and ROLES, the names of unit tests and of role proofs that the
# Makefile built. What each test wrote is kept under $B/log. The last line is "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 2
B=${B:-build}
LOG=$B/log
mkdir -p "$LOG"

passed=0 failed=0 skipped=0
failures=()

suites=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do suites+=("$1"); shift; done
[ "${1:-}" = -- ] && shift
[ ${#suites[@]} -gt 0 ] || suites=(unit style e2e)

pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); failures+=("$1"); }

# A unit test is a cmocka program; its TAP output has one line per test.
unit() {
	local t out rc ok bad
	for t in ${UNIT:-}; do
		out=$LOG/${t//\//-}.log
		if [ ! -x "$B/tests/unit/$t" ]; then
			echo "  FAIL    $t: does not build"
			fail "$t: does not build"
			continue
		fi
		CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 5 180 "$B/tests/unit/$t" >"$out" 2>&1
		rc=$?
		ok=$(grep -cE '^[[:space:]]*ok [0-9]+' "$out")
		bad=$(grep -cE '^[[:space:]]*not ok [0-9]+' "$out")
		passed=$((passed + ok))
		if [ $rc = 0 ] && [ "$bad" = 0 ] && [ "$ok" -gt 0 ]; then
			printf '  ok      %s (%s)\n' "$t" "$ok"
			continue
		fi
		printf '  FAIL    %s: exit %s, %s failed (%s)\n' "$t" "$rc" "$bad" "$out"
		grep -E '^[[:space:]]*not ok|Sanitizer|runtime error' "$out" | head -n 5 | sed 's/^/          /'
		[ "$bad" -gt 0 ] || bad=1 # it died: that counts, whatever it printed before
		failed=$((failed + bad))
		failures+=("$t: exit $rc, $bad failed")
	done
}

# A style check is a script: exit 0 good, 77 cannot run here, else bad and it says why.
style() {
	local c name out rc
	for c in tests/checks/*.sh; do
		name=$(basename "$c" .sh)
		out=$LOG/check-$name.log
		B=$B timeout -k 5 120 bash "$c" >"$out" 2>&1
		rc=$?
		case $rc in
		0) printf '  ok      style/%s%s\n' "$name" "$(tail -n 1 "$out" | sed -n 's/^note: /: /p')"; pass ;;
		77) printf '  skip    style/%s: %s\n' "$name" "$(tail -n 1 "$out")"; skipped=$((skipped + 1)) ;;
		*)
			printf '  FAIL    style/%s\n' "$name"
			head -n 20 "$out" | sed 's/^/          /'
			fail "style/$name"
			;;
		esac
	done
	for c in ${ROLES:-}; do
		if [ -x "$B/roles/$c" ]; then printf '  ok      links/%s\n' "$c"; pass
		else printf '  FAIL    links/%s: its object list does not stand alone\n' "$c"; fail "links/$c"; fi
	done
}

# End to end: pytest (the system's, because its modules come as packages), in namespaces of its own.
e2e() {
	local py=/usr/bin/python3 xml=$PWD/$LOG/e2e.xml rc as=() args=() a
	[ -x $py ] || py=python3
	if [ ! -x "$B/sallyportd" ] || [ ! -x "$B/gwctl" ]; then
		echo "  FAIL    e2e: sallyportd or gwctl does not build"
		fail "e2e: nothing to test"
		return
	fi
	if [ "$(id -u)" != 0 ]; then
		if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as=(sudo -n env "B=$B" "SAN=${SAN:-}")
		else
			echo "  FAIL    e2e: network namespaces need root; run this as root or with sudo"
			fail "e2e: needs root"
			return
		fi
	fi
	if ! "${as[@]}" unshare -n true 2>/dev/null; then
		echo "  FAIL    e2e: no network namespace can be made here (a container needs --privileged for it)"
		fail "e2e: no network namespaces"
		return
	fi
	for a; do # test files by their name, or by their path
		if [ -e "tests/e2e/${a%%::*}" ]; then args+=("tests/e2e/$a"); else args+=("$a"); fi
	done
	rm -f "$LOG"/e2e*.xml
	# Most of the time a test waits for something, so a second run of pytest takes half of the files: each has namespaces and folders of its own.
	local jobs=${E2E_JOBS:-2} i pids=() files=()
	[ ${#args[@]} = 0 ] || jobs=1
	while read -r a; do files+=("$a"); done < <(ls -S tests/e2e/test_*.py)
	for ((i = jobs - 1; i >= 0; i--)); do
		local share=("${args[@]}")
		if [ "$jobs" -gt 1 ]; then
			for ((a = i; a < ${#files[@]}; a += jobs)); do share+=("${files[a]}"); done
		fi
		"${as[@]}" env B="$B" PYTHONDONTWRITEBYTECODE=1 timeout -k 30 "${E2E_TIMEOUT:-2400}" $py -m pytest -p no:cacheprovider \
			-c tests/e2e/pytest.ini --rootdir=tests/e2e --junitxml="${xml%.xml}-$i.xml" "${share[@]}" >"$LOG/e2e-$i.log" 2>&1 &
		pids[i]=$!
	done
	rc=0
	for ((i = 0; i < jobs; i++)); do
		wait "${pids[i]}" || rc=$?
		cat "$LOG/e2e-$i.log"
		[ -s "${xml%.xml}-$i.xml" ] && continue
		echo "  FAIL    e2e: pytest ended with $rc and no results"
		fail "e2e: no results"
	done
	local sum
	sum=$($py - "${xml%.xml}"-*.xml <<'PY'
import os
import sys
import xml.etree.ElementTree as ET
good = bad = skip = 0
names = []
for path in filter(os.path.exists, sys.argv[1:]):
    for case in ET.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            bad += 1
            names.append("%s::%s" % (case.get("classname"), case.get("name")))
        elif case.find("skipped") is not None:
            skip += 1
        else:
            good += 1
print(good, bad, skip)
for n in names:
    print(n)
PY
	)
	local g b s
	read -r g b s <<<"$(head -n 1 <<<"$sum")"
	passed=$((passed + g)) failed=$((failed + b)) skipped=$((skipped + s))
	while read -r n; do [ -n "$n" ] && failures+=("$n"); done < <(tail -n +2 <<<"$sum")
	[ "$rc" = 0 ] || [ "$b" -gt 0 ] || fail "e2e: pytest ended with $rc"
}

for s in "${suites[@]}"; do
	case $s in
	unit) echo "unit tests"; unit ;;
	style) echo "style checks"; style ;;
	e2e) echo "end to end"; e2e "$@" ;;
	*) echo "run.sh: no suite \"$s\" (unit, style, e2e)" >&2; exit 2 ;;
	esac
done

if [ ${#failures[@]} -gt 0 ]; then
	echo
	echo "failed:"
	printf '  %s\n' "${failures[@]}"
fi
[ $skipped = 0 ] || echo "($skipped skipped)"
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
