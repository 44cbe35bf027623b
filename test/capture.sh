#!/usr/bin/env bash
# Draws docs/demo.svg: what a real run of the demo shows, up to the list of
# runs. Ids and times are those of the run.
set -euo pipefail
cd "$(dirname "$0")/.."
shown=$(mktemp)
trap 'rm -f "$shown" docs/demo.svg.new' EXIT
./test/demo.sh >"$shown"
sed '/^\$ dayfly run show/,$d' "$shown" | go run ./test/capture >docs/demo.svg.new
mv docs/demo.svg.new docs/demo.svg
