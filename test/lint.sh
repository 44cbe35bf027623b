#!/usr/bin/env bash
# Formatting, vet and the layers.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || { echo "lint: run gofmt on: $unformatted" >&2; exit 1; }
go vet ./...
