#!/usr/bin/env bash
# Runs the sandbox driver's tests in a virtual machine whose kernel has every
# controller in cgroup version 2, as systemd machines have and many a
# container host has not.
#
# The machine is emulated (QEMU, TCG), so this needs no /dev/kvm and is the same
# everywhere. Its kernel is Debian's for clouds, which apt-get downloads once,
# into Go's cache directory; DAYFLY_GUEST_KERNEL names a directory with another
# one's boot/vmlinuz-* and lib/modules/*. Arguments go to the test binary.
#
# It fails when a test fails or is skipped, when fewer run than are listed
# below, and when the machine ends before it says how they ended.
set -euo pipefail
cd "$(dirname "$0")/.."

# What runs: every test of the package but those that need a program which the
# guest has not (TestBesideDockerd: dockerd, iptables).
skip='^TestBesideDockerd$'
# What the kernel loads; names that are built in are passed over.
modules='virtio_pci virtio_blk ext4 overlay veth bridge
nf_tables nft_ct nft_masq nft_nat nft_chain_nat nft_reject_inet nft_fib_inet nft_fib_ipv4 nft_fib_ipv6 nft_objref'

work=$(mktemp -d "${TMPDIR:-/tmp}/dayfly-guest-XXXXXX")
qemu=
finish() {
	[ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true
	rm -rf "$work"
}
trap finish EXIT

kernel=${DAYFLY_GUEST_KERNEL:-}
if [ -z "$kernel" ]; then
	kernel=$(dirname "$(go env GOCACHE)")/dayfly/guest-kernel
	if [ ! -d "$kernel" ]; then
		package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: *\(linux-image-[0-9].*\)/\1/p' | head -n 1)
		[ -n "$package" ] || { echo 'guest: no package linux-image-cloud-amd64 is known here: set DAYFLY_GUEST_KERNEL (see the top of test/guest.sh)' >&2; exit 1; }
		echo "guest: downloading $package into $kernel, once" >&2
		(cd "$work" && apt-get download -qq "$package" 2>apt.log) || { cat "$work/apt.log" >&2; exit 1; }
		dpkg -x "$work/$package"_*.deb "$work/kernel"
		mkdir -p "$(dirname "$kernel")"
		mv -T "$work/kernel" "$kernel"
	fi
fi

export CGO_ENABLED=0 GOOS=linux GOARCH=amd64
mkdir -p "$work/root/tests" "$work/root/tmp" "$work/root/etc" "$work/root/bin"
go test -c -o "$work/root/tests/sandbox.test" ./internal/sandbox
go build -trimpath -ldflags '-s -w' -o "$work/root/tests/misbehave" ./internal/drivertest/misbehave
go build -trimpath -ldflags '-s -w' -o "$work/root/init" ./test/guest/init
unset GOOS GOARCH
# shellcheck disable=SC2086 # a list
go run ./test/guest/pack -modules "$(echo "$kernel"/lib/modules/*)" -init "$work/root/init" -out "$work/initramfs" $modules
: >"$work/root/etc/resolv.conf"
printf '%s\n' /tests/sandbox.test -test.v=test2json -test.timeout=10m "-test.skip=$skip" "$@" >"$work/root/command"
mke2fs -q -t ext4 -d "$work/root" "$work/disk" 1G

began=$SECONDS
# TTYs: the kernel's messages, what the tests print, how they ended.
qemu-system-x86_64 -accel tcg -machine q35 -cpu max -smp 2 -m 2G -nodefaults -no-user-config -display none -no-reboot \
	-kernel "$(echo "$kernel"/boot/vmlinuz-*)" -initrd "$work/initramfs" \
	-append 'console=ttyS0 loglevel=5 panic=-1 cgroup_no_v1=all' \
	-drive "file=$work/disk,format=raw,if=virtio,cache=unsafe" \
	-serial "file:$work/console" -serial stdio -serial "file:$work/result"  </dev/null | tee "$work/out"
echo took $((SECONDS-began))
cat "$work/result"; tail -50 "$work/console"
