#!/usr/bin/env bash
# usage: test/kits/build.sh
# Makes the functions of this directory, and prints the directory with them:
#   go          a static program
#   node.tar    a layer for the base image node
#   python.tar  a layer for the base image python
# They are kept in the user's cache directory, by what they are made of.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"

key=$({ find . -type f -print0 | sort -z | xargs -0 sha256sum && go version && uname -m; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dayfly/kits
made=$cache/$key
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ -e "$made" ]; then
	echo "$made"
	exit
fi
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{out,node/function,python/{function,python}}

(cd go && CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off go build -trimpath -ldflags '-s -w' -o "$work/out/go" .)

cp node/* "$work/node/function"
(cd "$work/node/function" && npm ci --silent --no-audit --no-fund --ignore-scripts)

cp python/func.py "$work/python/function"
pip3 install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile \
	--target "$work/python/python" --python-version 3.11 --implementation cp --only-binary=:all: \
	--platform "manylinux2014_$(uname -m)" --platform "manylinux_2_28_$(uname -m)" --platform any -r python/requirements.txt
# The program that pip writes names the interpreter of this machine.
sed -i '1s|.*|#!/usr/bin/python3|' "$work/python/python/bin/fdk"

for name in node python; do
	tar -C "$work/$name" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --mode=a+rX -cf "$work/out/$name.tar" .
done
rm -rf "$made"
mv "$work/out" "$made"
echo "$made"
