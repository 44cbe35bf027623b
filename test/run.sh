#!/usr/bin/env bash
# Runs every test. As root on Debian it installs what they need first.
#
# The tests run real containers, so they need root; without, they fail and say
# so.
set -euo pipefail
cd "$(dirname "$0")/.."

# command, Debian packages
needs='gcc gcc libc6-dev
aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
ip iproute2
nft nftables
iptables iptables
setpriv util-linux
pasta passt
newuidmap uidmap
npm npm
pip3 python3-pip
dockerd docker.io
docker-registry docker-registry
qemu-system-x86_64 qemu-system-x86
mke2fs e2fsprogs'
missing=()
while read -r command packages; do
	# shellcheck disable=SC2206 # words
	command -v "$command" >/dev/null || missing+=($packages)
done <<<"$needs"
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "test: missing packages: ${missing[*]}" >&2
		exit 1
	fi
	apt-get update -qq
	# RUNLEVEL keeps Debian from starting the Docker daemon: the tests start one
	# of their own, in a network namespace.
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# The race detector needs cgo; what is shipped is built without.
CGO_ENABLED=1 go test -race -shuffle=on -timeout 15m "$@" ./...

# Once more for the sandbox driver, where cgroup version 2 has the controllers.
[ $# -gt 0 ] || ./test/guest.sh
