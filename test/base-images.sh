#!/usr/bin/env bash
# usage: test/base-images.sh node|python ...
# Makes base images out of Debian's packages, and prints a directory for each:
#   layer.tar   its root file system
#   image.tar   the image node:debian or python:debian, as docker save writes it
# They are kept in the user's cache directory, by the versions of the packages.
# It needs apt, as Debian and Ubuntu have it, and root.
set -euo pipefail

packages() {
	case $1 in
	node) echo nodejs ;;
	python) echo python3 ;;
	*)
		echo "base-images: there is no $1, only node and python" >&2
		exit 2
		;;
	esac
}

self=$(readlink -f "$0")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dayfly/base-images
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# apt as if nothing were installed: what is, is not in the image.
mkdir -p "$work/archives/partial"
: >"$work/status"
apt() {
	apt-get -qq -o Dir::State::status="$work/status" -o Dir::State::extended_states="$work/states" \
		-o Dir::Cache::archives="$work/archives" -o Debug::NoLocking=1 -o APT::Sandbox::User=root \
		--no-install-recommends "$@" 9>&-
}

# lists says which packages there are to be had, without asking apt, which
# takes seconds.
lists() {
	{
		cat "$self"
		find /etc/apt /var/lib/apt/lists -maxdepth 2 -type f ! -name lock -printf '%p %s %T@\n' | sort
	} | sha256sum | cut -c1-16
}

# image writes docker save's tar around the layer.
image() { # name, directory
	local id layer
	layer=$(sha256sum "$2/layer.tar" | cut -d' ' -f1)
	printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/usr/local/bin:/usr/bin:/bin"],"Cmd":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
		"$(dpkg --print-architecture)" "$layer" >"$2/config.json"
	id=$(sha256sum "$2/config.json" | cut -d' ' -f1)
	mv "$2/config.json" "$2/$id.json"
	printf '[{"Config":"%s.json","RepoTags":["%s:debian"],"Layers":["layer.tar"]}]' "$id" "$1" >"$2/manifest.json"
	tar -C "$2" -cf "$2/image.tar" manifest.json "$id.json" layer.tar
	rm "$2/manifest.json" "$2/$id.json"
}

# build makes a root file system of all packages in the archives.
build() { # name, directory
	local root=$work/root deb
	rm -rf "$root"
	mkdir -p "$root"/{usr/{bin,sbin,lib,lib64},etc,tmp,root,proc,sys,dev,run}
	chmod 1777 "$root/tmp"
	for deb in bin sbin lib lib64; do ln -s "usr/$deb" "$root/$deb"; done
	for deb in "$work"/archives/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$root"
	done
	rm -rf "$root"/usr/share/{doc,man,locale,lintian,info} "${root:?}/var"
	printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
	if [ "$1" = python ]; then
		# Its packages do this when they are configured.
		chroot "$root" /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3* 9>&- || true
	fi
	mkdir "$2"
	tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$2/layer.tar" .
	image "$1" "$2"
}

for name in "$@"; do
	wanted=$(packages "$name")
	short=$cache/$name-lists-$(lists)
	if [ -e "$short/image.tar" ]; then
		readlink -f "$short"
		continue
	fi
	if ! plan=$(apt -s install "$wanted" 2>/dev/null); then
		apt-get -qq update 9>&-
		short=$cache/$name-lists-$(lists)
		plan=$(apt -s install "$wanted")
	fi
	versions=$({ cat "$self" && grep ^Inst <<<"$plan"; } | sha256sum | cut -c1-16)
	made=$cache/$name-$versions
	if [ ! -e "$made/image.tar" ]; then
		rm -f "$work"/archives/*.deb
		apt -y --download-only install "$wanted" >/dev/null
		rm -rf "$made" "$work/made"
		build "$name" "$work/made"
		mv "$work/made" "$made"
	fi
	rm -f "$cache/$name"-lists-*
	ln -sfn "$made" "$short"
	echo "$made"
done
