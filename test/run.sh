#!/usr/bin/env bash
# Runs every test. As root on Debian it installs what they need first.
#
# The tests run real containers, so they need root; without, they fail and say
# so.
set -euo pipefail
cd "$(dirname "$0")/.."

# command, Debian package
needs='gcc gcc
aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
ip iproute2
nft nftables
iptables iptables
setpriv util-linux
dockerd docker.io'
missing=()
while read -r command package; do
	command -v "$command" >/dev/null || missing+=("$package")
done <<<"$needs"
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "test: missing packages: ${missing[*]}" >&2
		exit 1
	fi
	apt-get update -qq
	# RUNLEVEL keeps Debian from starting the Docker daemon: the tests start one
	# of their own, in a network namespace.
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
fi

# The race detector needs cgo; what is shipped is built without.
CGO_ENABLED=1 go test -race -shuffle=on -timeout 15m "$@" ./...
