#!/usr/bin/env bash
# The longer proofs, which make test has in small: servers killed under load
# 100 times, a million calls, and the end-to-end tests again and again in
# another order each time. It takes about half an hour.
#
# DAYFLY_E2E_KILLS, DAYFLY_E2E_CALLS and ROUNDS make it longer or shorter.
set -euo pipefail
cd "$(dirname "$0")/.."
export DAYFLY_E2E_KILLS=${DAYFLY_E2E_KILLS:-100} DAYFLY_E2E_CALLS=${DAYFLY_E2E_CALLS:-1000000}
rounds=${ROUNDS:-5}

echo "# $DAYFLY_E2E_KILLS servers killed under load: nothing may be left, nothing lost"
go test -count=1 -timeout 2h -v -run '^TestKillUnderLoad$' ./test/e2e
echo "# $DAYFLY_E2E_CALLS calls: the server's memory must stay flat"
go test -count=1 -timeout 2h -v -run '^TestMemoryStaysFlat$' ./test/e2e
unset DAYFLY_E2E_KILLS DAYFLY_E2E_CALLS
for round in $(seq "$rounds"); do
	echo "# every end-to-end test, round $round of $rounds"
	CGO_ENABLED=1 go test -race -count=1 -shuffle=on -timeout 15m ./test/e2e
done
