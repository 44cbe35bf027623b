package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dayfly-io/dayfly/bench/result"
)

// Target is what is called.
type Target struct {
	// Address is host:port, Path the URL's path.
	Address, Path string
}

// URL gives the URL of the target.
func (t Target) URL() string { return "http://" + t.Address + t.Path }

// Result is what a load came to.
type Result struct {
	Requests   int64 // answered with 200
	Errors     int64 // everything else
	Seconds    float64
	P50, P99   time.Duration // of an answer's last byte
	PerSecond  float64
	Aborted    int64 // requests that may have been under way at the end, at most
	ErrorCause error // of the first of Errors, when known
}

// Client makes load with so many connections that are kept, for a while.
type Client interface {
	Name() string
	Run(ctx context.Context, t Target, connections int, d time.Duration) (Result, error)
}

// Own is a client of our own: a goroutine per connection.
type Own struct{}

// Name names the client.
func (Own) Name() string { return "own Go client" }

// Run makes requests for a while. None is cut off: the last ones are awaited.
func (Own) Run(ctx context.Context, t Target, connections int, d time.Duration) (Result, error) {
	end := time.Now().Add(d)
	return run(ctx, t, connections, func() bool { return time.Now().Before(end) })
}

// Count makes n requests.
func (Own) Count(ctx context.Context, t Target, connections int, n int64) (Result, error) {
	var made atomic.Int64
	return run(ctx, t, connections, func() bool { return made.Add(1) <= n })
}

// maxLatencies is how many latencies are kept per connection; of more, every
// so-manieth.
const maxLatencies = 1 << 16

// worker is one connection's part.
type worker struct {
	requests, errors int64
	latencies        []float64 // s
	err              error
}

func run(ctx context.Context, t Target, connections int, another func() bool) (Result, error) {
	workers := make([]worker, connections)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range workers {
		wg.Go(func() { workers[i].run(ctx, t, another) })
	}
	wg.Wait()
	r := Result{Seconds: time.Since(began).Seconds()}
	var latencies []float64
	for _, w := range workers {
		r.Requests += w.requests
		r.Errors += w.errors
		latencies = append(latencies, w.latencies...)
		if r.ErrorCause == nil {
			r.ErrorCause = w.err
		}
	}
	if r.Requests == 0 {
		return r, errors.Join(fmt.Errorf("make load on %s: no request was answered", t.URL()), r.ErrorCause, ctx.Err())
	}
	r.PerSecond = float64(r.Requests) / r.Seconds
	r.P50 = time.Duration(result.Quantile(latencies, 0.5) * float64(time.Second))
	r.P99 = time.Duration(result.Quantile(latencies, 0.99) * float64(time.Second))
	return r, ctx.Err()
}

func (w *worker) run(ctx context.Context, t Target, another func() bool) {
	var c *Conn
	defer func() {
		if c != nil {
			_ = c.Close() // nothing is under way
		}
	}()
	request := Request("GET", t.Path, t.Address)
	step, n := 1, 0
	for ctx.Err() == nil && another() {
		if c == nil {
			var err error
			if c, err = Dial(t.Address); err != nil {
				w.errors, w.err = w.errors+1, err
				return
			}
		}
		a, err := c.Do(request)
		if err == nil && a.Status != 200 {
			err = fmt.Errorf("status %d: %.200s", a.Status, a.Body)
		}
		if err != nil {
			w.errors, w.err = w.errors+1, err
			_ = c.Close() // it is in no known state
			c = nil
			continue
		}
		w.requests++
		if n++; n%step == 0 {
			w.latencies = append(w.latencies, a.Total.Seconds())
		}
		if len(w.latencies) == maxLatencies {
			for i := range maxLatencies / 2 {
				w.latencies[i] = w.latencies[2*i]
			}
			w.latencies, step = w.latencies[:maxLatencies/2], step*2
		}
	}
}

// FreePort finds a TCP port of 127.0.0.1 on which nobody listens.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = l.Close() }() // it was only to have the number
	return l.Addr().(*net.TCPAddr).Port, nil
}
