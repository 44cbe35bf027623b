package load

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// Wrk is the load generator wrk (https://github.com/wg/wrk), with one thread.
type Wrk struct{ Program string }

// FindWrk looks wrk up in PATH.
func FindWrk() (Wrk, error) {
	path, err := exec.LookPath("wrk")
	if err != nil {
		return Wrk{}, fmt.Errorf("find wrk: %w", err)
	}
	return Wrk{path}, nil
}

// Name names the client.
func (Wrk) Name() string { return "wrk -t1" }

// Run runs wrk. It cuts off what is under way at the end: up to one request
// per connection that it does not count.
func (w Wrk) Run(ctx context.Context, t Target, connections int, d time.Duration) (Result, error) {
	cmd := exec.CommandContext(ctx, w.Program, "-t1", "-c"+strconv.Itoa(connections),
		"-d"+strconv.Itoa(max(int(d.Seconds()), 1))+"s", "--latency", t.URL())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return Result{}, fmt.Errorf("run wrk on %s: %w: %.300s", t.URL(), err, out)
	}
	r, err := parseWrk(out)
	r.Aborted = int64(connections)
	return r, err
}

var (
	wrkTotal   = regexp.MustCompile(`(?m)^\s*(\d+) requests in ([0-9.]+)(us|ms|s|m),`)
	wrkLatency = regexp.MustCompile(`(?m)^\s*(50|99)%\s+([0-9.]+)(us|ms|s|m)\s*$`)
	wrkErrors  = regexp.MustCompile(`(?m)Non-2xx or 3xx responses: (\d+)`)
	wrkSocket  = regexp.MustCompile(`(?m)Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`)
)

// parseWrk reads what wrk prints with --latency.
func parseWrk(out []byte) (Result, error) {
	var r Result
	m := wrkTotal.FindSubmatch(out)
	if m == nil {
		return r, fmt.Errorf("read the output of wrk: there is no number of requests in %.300q", out)
	}
	total, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		return r, fmt.Errorf("read the output of wrk: %w", err)
	}
	took, err := wrkDuration(m[2], m[3])
	if err != nil {
		return r, err
	}
	r.Seconds = took.Seconds()
	for _, m := range wrkLatency.FindAllSubmatch(out, -1) {
		d, err := wrkDuration(m[2], m[3])
		if err != nil {
			return r, err
		}
		if bytes.Equal(m[1], []byte("50")) {
			r.P50 = d
		} else {
			r.P99 = d
		}
	}
	if m := wrkErrors.FindSubmatch(out); m != nil {
		n, _ := strconv.ParseInt(string(m[1]), 10, 64) // digits only
		r.Errors += n
		total -= n
	}
	if m := wrkSocket.FindSubmatch(out); m != nil {
		for _, digits := range m[1:] {
			n, _ := strconv.ParseInt(string(digits), 10, 64) // digits only
			r.Errors += n
		}
	}
	r.Requests = total
	r.PerSecond = float64(total) / r.Seconds
	return r, nil
}

func wrkDuration(number, unit []byte) (time.Duration, error) {
	d, err := time.ParseDuration(string(number) + string(unit))
	if err != nil {
		return 0, fmt.Errorf("read the output of wrk: %w", err)
	}
	return d, nil
}
