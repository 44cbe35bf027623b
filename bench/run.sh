#!/usr/bin/env bash
# Measures: bench/run.sh [cold|coldrate|hot|fdk|memory|unpack|functions|frozen|runtimes] [flags], all of them
# without an argument. Raw results go to bench/results, docs/performance.md is
# written from the newest ones.
#
# Measure on a machine that does nothing else, as root. wrk is installed when
# it is missing; runc and Docker are only unpacked into bench/.peers, so that
# nothing of them is started or set up on the machine.
set -euo pipefail
cd "$(dirname "$0")"

# wrk makes the load of hot; without it a client of our own does.
install_wrk() {
	command -v wrk >/dev/null && return
	command -v apt-get >/dev/null || { echo "bench: wrk is not installed; our own client is used" >&2; return; }
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq wrk >/dev/null ||
		echo "bench: wrk could not be installed; our own client is used" >&2
}

# fetch_peers unpacks what cold compares with, where it is not installed.
fetch_peers() {
	command -v runc >/dev/null && command -v dockerd >/dev/null && return
	[ ! -e .peers/complete ] || return 0
	command -v apt-get >/dev/null || { echo "bench: runc and docker are not installed and are left out" >&2; return; }
	rm -rf .peers
	mkdir -p .peers
	if ! (cd .peers && { apt-get update -qq || true; } &&
		apt-get download -qq runc docker.io containerd libdevmapper1.02.1 libseccomp2 2>/dev/null &&
		for package in *.deb; do dpkg-deb -x "$package" . || exit 1; done && rm -f ./*.deb && touch complete); then
		echo "bench: runc and docker could not be fetched and are left out" >&2
	fi
}

[ "$(id -u)" = 0 ] || { echo "bench: it needs root, as the sandbox driver does" >&2; exit 1; }
measures=(cold coldrate hot fdk memory unpack functions frozen runtimes)
if [ $# -gt 0 ]; then
	measures=("$1")
	shift
fi
# What is measured is what is in the tree, unless a program is named.
case " $* " in *" -program"*) ;; *) make -C .. build ;; esac
bench=$(mktemp "${TMPDIR:-/tmp}/dayfly-bench-program-XXXXXX")
trap 'rm -f "$bench"' EXIT
CGO_ENABLED=0 go build -o "$bench" .
for measure in "${measures[@]}"; do
	case $measure in
	hot | fdk) install_wrk ;;
	cold) fetch_peers ;;
	esac
	"$bench" "$measure" "$@"
done
# Results of a trial (-results) are no page.
case " $* " in *" -results"*) ;; *) "$bench" doc ;; esac
