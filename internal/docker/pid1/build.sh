#!/bin/sh
# Builds init for every architecture, the same bytes every time, and puts them
# beside this script. With a directory as argument, puts them there instead.
# Needs gcc 12 and, for the other architecture, its cross compiler (Debian 12:
# gcc-x86-64-linux-gnu, gcc-aarch64-linux-gnu).
set -eu
cd "$(dirname "$0")"
out=${1:-.}
build() { # architecture, compiler, its further flags
	arch=$1 cc=$2
	shift 2
	"$cc" -std=gnu11 -Os -Wall -Wextra -Werror -ffreestanding -nostdlib -static -fno-pie -no-pie \
		-fno-stack-protector -fno-asynchronous-unwind-tables -fno-unwind-tables -fcf-protection=none \
		-fno-ident -ffile-prefix-map="$PWD"=. -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,norelro \
		-Wl,--gc-sections -s -I ../../sandbox/pid1/src "$@" -o "$out/init_$arch" src/init.c
}
native=$(uname -m)
cc_amd64=gcc cc_arm64=gcc
[ "$native" = x86_64 ] || cc_amd64=x86_64-linux-gnu-gcc
[ "$native" = aarch64 ] || cc_arm64=aarch64-linux-gnu-gcc
build amd64 "$cc_amd64" -Wl,-z,max-page-size=4096
build arm64 "$cc_arm64" -mno-outline-atomics
