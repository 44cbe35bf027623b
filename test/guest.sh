#!/usr/bin/env bash
# Runs the sandbox driver's tests in a virtual machine whose kernel has every
# controller in cgroup version 2, and is older than most.
#
# The machine is emulated (QEMU, TCG): it needs no /dev/kvm and is the same
# everywhere. Its kernel is Debian's for clouds, which apt-get downloads once,
# into Go's cache directory; DAYFLY_GUEST_KERNEL names a directory with the
# boot/vmlinuz-* and lib/modules/* of another one. Arguments go to the test
# binary, such as -test.run.
#
# It fails when a test fails or is skipped, when one that should run does not,
# and when the machine ends without telling how the tests ended.
set -euo pipefail
cd "$(dirname "$0")/.."

# Every test of the package runs, but for these: the first two need programs that
# the guest does not have (a Docker daemon and iptables, newuidmap and pasta); the others load
# an image for each of many cases, none of which is about cgroups, and would
# take an emulated processor another minute.
elsewhere='TestBesideDockerd|TestAsPlainUser|TestHostileImages|TestNothingLeadsOutByOpenFiles'
# The modules that the kernel loads, with what they need. What is built into it
# is passed over.
modules='virtio_pci virtio_blk ext4 overlay veth bridge nf_tables nft_ct nft_masq nft_chain_nat
nft_reject_inet nft_fib_inet nft_objref'

name=github.com/dayfly-io/dayfly/test/guest
began=$(date +%s%N)
end() { # ok or FAIL, as go test says it
	local tenths=$((($(date +%s%N) - began) / 100000000))
	printf '%s\t%s\t%d.%ds\n' "$1" "$name" $((tenths / 10)) $((tenths % 10))
}
work=$(mktemp -d "${TMPDIR:-/tmp}/dayfly-guest-XXXXXX")
finish() {
	local code=$?
	rm -rf "$work"
	if [ "$code" = 0 ]; then end 'ok  '; else end FAIL; fi
}
trap finish EXIT

kernel=${DAYFLY_GUEST_KERNEL:-$(dirname "$(go env GOCACHE)")/dayfly/guest-kernel}
newest() { # the package that the package for the newest kernel stands for
	apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: *\(linux-image-[0-9].*\)/\1/p' | head -n 1
}
if [ ! -d "$kernel" ]; then
	package=$(newest)
	if [ -z "$package" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		apt-get update -qq
		package=$(newest)
	fi
	if [ -z "$package" ]; then
		echo 'guest: there is no package linux-image-cloud-amd64 to take a kernel from: set DAYFLY_GUEST_KERNEL (see test/guest.sh)' >&2
		exit 1
	fi
	echo "guest: downloading $package into $kernel, once" >&2
	mkdir "$work/package"
	(cd "$work/package" && apt-get download -qq -o APT::Sandbox::User=root "$package")
	dpkg-deb -x "$work"/package/*.deb "$work/kernel"
	mkdir -p "$(dirname "$kernel")"
	# Whoever else has just done the same is not in the way.
	mv -T "$work/kernel" "$kernel" || [ -d "$kernel" ]
fi

# The disk: the tests, the function that they start, and little else.
export CGO_ENABLED=0
mkdir -p "$work"/root/{bin,etc,tests,tmp}
for file in resolv.conf passwd subuid subgid; do : >"$work/root/etc/$file"; done
for made in "test -c -o $work/root/tests/sandbox.test ./internal/sandbox" \
	"build -trimpath -o $work/root/tests/misbehave ./internal/drivertest/misbehave" \
	"build -trimpath -o $work/root/init ./test/guest/init"; do
	# shellcheck disable=SC2086 # words
	GOOS=linux GOARCH=amd64 GOFLAGS=-ldflags=-s go $made
done
printf '%s\n' /tests/sandbox.test -test.v -test.timeout=8m "-test.skip=^($elsewhere)\$" "$@" >"$work/root/command"
mke2fs -q -t ext4 -d "$work/root" "$work/disk" 1G >/dev/null
# shellcheck disable=SC2086 # words
go run ./test/guest/pack -modules "$(echo "$kernel"/lib/modules/*)" -init "$work/root/init" -out "$work/initramfs" $modules

# The guest's clock counts instructions, at 1 ns each (icount): however busy this
# machine is, what is late in the guest is the guest's. With a clock of this
# machine, calibrated at boot, guests have stood still. Its processor is without
# what takes longer to emulate than to do without.
#
# Three serial ports: the kernel's messages, what the tests print, how they
# ended. What is streamed is one line a test; all of it comes when one fails.
: >"$work/result"
timeout --kill-after=5 900 qemu-system-x86_64 \
	-accel tcg -icount shift=0 -machine q35 -cpu max,-avx,-avx2,-erms -m 2G -nodefaults -no-user-config -display none -no-reboot \
	-kernel "$(echo "$kernel"/boot/vmlinuz-*)" -initrd "$work/initramfs" -append 'console=ttyS0 panic=-1 cgroup_no_v1=all' \
	-drive "file=$work/disk,format=raw,if=virtio,cache=unsafe" \
	-serial "file:$work/console" -serial stdio -serial "file:$work/result" </dev/null |
	tee "$work/out" | grep -a --line-buffered '^--- ' || true

fail() {
	grep -av ' level=INFO ' "$work/out" >&2 || true
	echo "guest: $1" >&2
	exit 1
}
case $(<"$work/result") in
'exit 0') ;;
'')
	tail -n 40 "$work/console" >&2
	fail 'the machine ended, and has not told how the tests did'
	;;
*) fail "the tests ended with $(<"$work/result")" ;;
esac
! grep -aq '^ *--- SKIP' "$work/out" || fail 'a test was skipped'
if [ $# = 0 ]; then
	mapfile -t tests < <(sed -n 's/^func \(Test[A-Z][A-Za-z0-9]*\)(t \*testing.T.*/\1/p' internal/sandbox/*_test.go)
	for test in "${tests[@]}"; do
		[[ $test =~ ^($elsewhere)$ ]] || grep -aq "^--- PASS: $test " "$work/out" || fail "$test has not run"
	done
fi
