#!/bin/sh
# Builds the program that enters a user namespace, for every architecture, as
# ../pid1/build.sh does with init.
set -eu
cd "$(dirname "$0")"
exec ../pid1/build.sh "${1:-$PWD}" enter "$PWD/src/enter.c"
