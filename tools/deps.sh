#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# deps.sh SET... - install what is missing for building, testing, benchmarking or fuzzing.
#
#   sets: build demo test bench fuzz
#
# Debian and Ubuntu by apt, Fedora and RHEL by dnf, through sudo where not root. Silent, and without the
# network, when everything is there. DEPS=no skips it; -n only lists what is missing (exit 1 when something is).
set -eu

[ "${DEPS:-yes}" = no ] && exit 0
dry=0
[ "${1:-}" = -n ] && { dry=1; shift; }

# Packages per system and set; "a|b" is satisfied by either and installs the first that there is.
packages() { # system set
	case $1-$2 in
	deb-build) echo gcc libc6-dev make libssl-dev libevent-dev libnghttp2-dev libconfig-dev libjansson-dev libseccomp-dev ;;
	deb-demo) echo curl ;;
	deb-test) echo libcmocka-dev curl 'nginx|nginx-light' openssl iproute2 nftables mandoc shellcheck \
		python3 python3-pytest python3-h2 python3-cryptography faketime softhsm2 opensc 'pkcs11-provider|libengine-pkcs11-openssl' \
		'systemd-standalone-sysusers|systemd' 'systemd-standalone-tmpfiles|systemd' ;;
	deb-bench) echo curl openssl python3 haproxy 'nginx|nginx-light' libnginx-mod-stream nghttp2-proxy ;;
	deb-fuzz) echo clang libclang-rt-dev ;;
	rpm-build) echo gcc make openssl-devel libevent-devel libnghttp2-devel libconfig-devel jansson-devel libseccomp-devel \
		${SAN:+libasan libubsan} ;;
	rpm-demo) echo curl ;;
	rpm-test) echo libcmocka-devel curl nginx openssl iproute nftables mandoc ShellCheck \
		python3 python3-pytest python3-h2 python3-cryptography libfaketime softhsm opensc 'pkcs11-provider|openssl-pkcs11' ;;
	rpm-bench) echo curl openssl python3 haproxy nginx nginx-mod-stream nghttp2 ;;
	rpm-fuzz) echo clang compiler-rt ;;
	*) return 1 ;;
	esac
}

say() { printf 'deps: %s\n' "$*" >&2; }

if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
	kind=deb
elif command -v dnf >/dev/null && command -v rpm >/dev/null; then
	kind=rpm
else
	say "neither apt nor dnf here; needed are the development files of OpenSSL 3, libevent 2.1, nghttp2,"
	say "libconfig, jansson and libseccomp (and cmocka, pytest, python3-h2, nginx, nftables for the tests)."
	say "Going on; DEPS=no silences this."
	exit 0
fi

missing_of() { # packages: prints those that are not there
	local have one p
	if [ $kind = deb ]; then
		# shellcheck disable=SC2016,SC2048,SC2086 # dpkg-query's own format; the words are package names
		have=" $(dpkg-query -W -f '${Package}=${db:Status-Abbrev}\n' ${*//|/ } 2>/dev/null | sed -n 's/=ii *$//p' | tr '\n' ' ')"
	else
		have=" "
		# shellcheck disable=SC2048
		for p in ${*//|/ }; do rpm -q --quiet --whatprovides "$p" && have+="$p "; done
	fi
	for one; do
		for p in ${one//|/ }; do case $have in *" $p "*) continue 2 ;; esac; done
		first_known "$one"
	done
}

first_known() { # a|b: prints a, or b where the system knows no a
	local p
	if [ $kind = deb ]; then
		case $1 in
		*'|'*)
			for p in ${1//|/ }; do
				if apt-cache show "$p" >/dev/null 2>&1; then
					echo "$p"
					return
				fi
			done
			;;
		esac
	fi
	echo "${1%%|*}"
}

want=
for set; do
	want+=" $(packages $kind "$set")" || { say "no such set: $set (build, demo, test, bench, fuzz)"; exit 2; }
done
# shellcheck disable=SC2086 # words
mapfile -t missing < <(missing_of $want)
[ ${#missing[@]} -gt 0 ] || exit 0
if [ $dry = 1 ]; then
	printf '%s\n' "${missing[@]}"
	exit 1
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null || ! sudo true; then
		[ $kind = deb ] && by_hand="apt-get install --no-install-recommends" || by_hand="dnf install"
		say "packages are missing, and you are neither root nor may sudo install them. Run this as root, then your command again:"
		say "  $by_hand ${missing[*]}"
		exit 1
	fi
	as_root=(sudo)
fi
say "installing ${missing[*]}"

if [ $kind = rpm ]; then
	"${as_root[@]}" dnf -y -q install "${missing[@]}"
	exit
fi

# Debian starts a server as soon as it is installed. Ours are for tests: forbid it while we install (unless somebody
# has a rule of his own), and undo the enabling of those that came with us.
guard=/usr/sbin/policy-rc.d
mine=0
undo() { [ $mine = 0 ] || "${as_root[@]}" rm -f $guard; }
trap undo EXIT
if [ ! -e $guard ]; then
	mine=1
	printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $guard >/dev/null
	"${as_root[@]}" chmod 755 $guard
fi
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Dpkg::Use-Pty=0 "$@"; }
log=$(mktemp)
if ! apt install --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
	# A fresh system has no package lists, or old ones.
	apt update >"$log" 2>&1 || { cat "$log" >&2; say "apt-get update failed"; exit 1; }
	# shellcheck disable=SC2086 # words
	mapfile -t missing < <(missing_of $want)
	apt install --no-install-recommends "${missing[@]}" >"$log" 2>&1 || {
		cat "$log" >&2
		say "could not install ${missing[*]}"
		exit 1
	}
fi
rm -f "$log"
if [ -d /run/systemd/system ]; then
	for p in "${missing[@]}"; do
		case $p in
		nginx*) "${as_root[@]}" systemctl -q disable nginx 2>/dev/null || true ;;
		haproxy) "${as_root[@]}" systemctl -q disable haproxy 2>/dev/null || true ;;
		nghttp2-proxy) "${as_root[@]}" systemctl -q disable nghttpx 2>/dev/null || true ;;
		esac
	done
fi
say "done"
