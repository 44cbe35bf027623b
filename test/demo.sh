#!/usr/bin/env bash
# Shows Dayfly at work: starts a server on a free port with a temporary data
# directory, deploys the examples from source, calls them, looks at their runs
# and stops. Nothing is left behind, also when it is interrupted or fails.
#
# Each feature adds its step here. DAYFLY names the program (bin/dayfly unless
# set); what the server logs is printed only when something went wrong.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${DAYFLY:-bin/dayfly}
[ -x "$program" ] || { echo "demo: there is no $program: run make build first" >&2; exit 1; }
program=$(realpath "$program")
unset DAYFLY_APP DAYFLY_TOKEN

tmp=$(mktemp -d "${TMPDIR:-/tmp}/dayfly-demo-XXXXXX")
server=

# stop_server asks the server to stop, waits for it and tells its exit status.
stop_server() {
	[ -n "$server" ] || return 0
	local pid=$server status=0
	server=
	kill -TERM "$pid" 2>/dev/null || true
	for _ in $(seq 300); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	if kill -KILL "$pid" 2>/dev/null; then
		echo "demo: the server did not stop within 30 seconds and was killed" >&2
	fi
	wait "$pid" || status=$?
	return "$status"
}

finish() {
	local status=$?
	trap - EXIT INT TERM
	stop_server || true
	if [ "$status" -ne 0 ] && [ -s "$tmp/server.log" ]; then
		echo "demo: it ended with status $status; the server's log:" >&2
		tail -n 40 "$tmp/server.log" >&2
	fi
	exec 3<&- || true
	rm -rf --one-file-system "$tmp"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n# %s\n' "$*"; }

# quoted prints words as one would type them.
quoted() {
	local word out=
	for word; do
		case $word in
		*[!A-Za-z0-9_./:=@,-]* | '') out+=" '$word'" ;;
		*) out+=" $word" ;;
		esac
	done
	printf '%s\n' "${out# }"
}

# dayfly shows a command and runs it.
dayfly() {
	printf '$ dayfly %s\n' "$(quoted "$@")"
	"$program" "$@" </dev/null
}

# answers runs a command and ends the demo unless its output has in it what the
# pattern says.
answers() {
	local want=$1 got
	shift
	dayfly "$@" 2>&1 | tee "$tmp/answer"
	got=$(<"$tmp/answer")
	# shellcheck disable=SC2053 # it is a pattern
	[[ $got == *$want* ]] || { echo "demo: that should have said: $want" >&2; exit 1; }
}

# last_run gives the id of the newest run of a function.
last_run() {
	"$program" run list --function "$1" --limit 1 --json | sed -n 's/^ *"id": "\(run_[^"]*\)".*/\1/p'
}

say "Start a server: nothing else is installed or running."
printf '$ dayfly server\n'
mkfifo "$tmp/ready"
"$program" server --listen 127.0.0.1:0 --data "$tmp/data" >"$tmp/ready" 2>"$tmp/server.log" &
server=$!
exec 3<"$tmp/ready"
read -r -t 60 -u 3 line || { echo "demo: the server did not say that it is ready" >&2; exit 1; }
echo "$line"
export DAYFLY_URL=http${line#*http}

say "Build two functions from Go source and deploy them."
dayfly deploy examples 2>&1

say "A web server as a function. The first call starts its container ..."
answers '"Hello, world!"*, cold start ' invoke examples/hello -d '{"name":"world"}' -i
say "... and the next ones find it hot."
answers '"Hello, again!"*, hot, ' invoke examples/hello -d '{"name":"again"}' -i

say "A job: a fresh container per run, the body on its standard input."
answers '"words":10' invoke examples/wordcount -d 'to be or not to be that is the question' -i

say "Every call is a run, with its times, its use of the machine and its log."
dayfly run list
dayfly run show "$(last_run wordcount)"
dayfly run show "$(last_run hello)"
answers 'greeting again' run logs "$(last_run hello)"

say "A new version, what it changed, and back again."
cp -r examples "$tmp/changed"
sed -i 's/^  hello:/&\n    env: {GREETING: Hei}/' "$tmp/changed/dayfly.yaml"
"$program" deploy "$tmp/changed" >/dev/null 2>&1
dayfly version diff examples/hello || [ $? = 8 ] # it says that there is a difference
answers 'back to version 1, as version 3' function rollback examples/hello
dayfly version list examples/hello

say "What is live now: an idle instance is frozen, and thaws when it is called."
answers '"Hello, once more!"' invoke examples/hello -d '{"name":"once more"}'
for _ in $(seq 100); do
	! "$program" instance list | grep -q frozen || break
	sleep 0.05
done
answers frozen instance list

say "Stop."
stop_server || { echo "demo: the server stopped with status $?" >&2; exit 1; }
echo "The server has stopped; nothing of it is left."
