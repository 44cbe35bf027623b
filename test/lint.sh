#!/usr/bin/env bash
# Formatting, vet, layers, shell scripts, and the linter with .golangci.yml.
#
# The linter is compiled once, from the module proxy, into Go's cache
# directory: some minutes the first time, nothing after. GOLANGCI_LINT names
# one that is there already; arguments go to it, such as --fix.
set -euo pipefail
cd "$(dirname "$0")/.."
version=v2.15.0

mapfile -t sources < <(git ls-files --cached --others --exclude-standard '*.go' | while read -r f; do [ ! -f "$f" ] || echo "$f"; done)
unformatted=$(gofmt -l "${sources[@]}")
[ -z "$unformatted" ] || { echo "lint: run gofmt -w on: $unformatted" >&2; exit 1; }

# Every module of the tree: the product, and what it keeps apart.
while read -r mod; do
	(cd "$(dirname "$mod")" && go vet ./...)
done < <(git ls-files --cached --others --exclude-standard 'go.mod' '**/go.mod')

go test ./internal/archtest

if command -v shellcheck >/dev/null; then
	mapfile -t scripts < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)
	shellcheck "${scripts[@]}"
else
	echo "lint: shellcheck is not installed; the scripts are not checked" >&2
fi

linter=${GOLANGCI_LINT:-}
if [ -z "$linter" ]; then
	dir=$(dirname "$(go env GOCACHE)")/dayfly/golangci-lint-$version
	linter=$dir/golangci-lint
	if [ ! -x "$linter" ]; then
		echo "lint: compiling golangci-lint $version into $dir, once" >&2
		GOBIN=$dir CGO_ENABLED=0 GOFLAGS='' go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
	fi
fi
"$linter" run "$@" ./...
