package network_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/sandbox/network"
)

// BenchmarkAttach reports what one Attach takes with nothing else going on, into a namespace that is there already.
func BenchmarkAttach(b *testing.B) {
	n := newWorld(b).openForTest(b, "bench")
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		s := unownedSpace(b)
		b.StartTimer()
		start := time.Now()
		if _, err := n.Attach(b.Context(), s.fd, 0); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
		b.StopTimer()
		n.Detach(0)
		if err := n.Wait(b.Context()); err != nil {
			b.Fatal(err)
		}
		s.close()
		b.StartTimer()
	}
	reportLatency(b, took)
}

// BenchmarkAttach200 attaches and detaches 200 sandboxes four at a time and reports the rate until the last port is
// deleted, and what one Attach takes meanwhile.
func BenchmarkAttach200(b *testing.B) {
	const sandboxes, workers = 200, 4
	n := newWorld(b).openForTest(b, "bench")
	var took []time.Duration
	var mu sync.Mutex
	for b.Loop() {
		b.StopTimer()
		spaces := make([]space, sandboxes)
		for i := range spaces {
			spaces[i] = unownedSpace(b)
		}
		b.StartTimer()
		var wg sync.WaitGroup
		for worker := range workers {
			wg.Go(func() {
				for slot := worker; slot < sandboxes; slot += workers {
					start := time.Now()
					if _, err := n.Attach(b.Context(), spaces[slot].fd, slot); err != nil {
						b.Error(err)
						return
					}
					d := time.Since(start)
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
					n.Detach(slot)
				}
			})
		}
		wg.Wait()
		if err := n.Wait(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		for _, s := range spaces {
			s.close()
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(sandboxes*b.N)/b.Elapsed().Seconds(), "sandboxes/s")
	reportLatency(b, took)
}

// BenchmarkLoopback reports what lo alone takes.
func BenchmarkLoopback(b *testing.B) {
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		s := unownedSpace(b)
		b.StartTimer()
		start := time.Now()
		if err := network.Loopback(s.fd); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
		s.close()
	}
	reportLatency(b, took)
}

func reportLatency(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(percent int) float64 { return float64(took[(len(took)-1)*percent/100].Microseconds()) }
	b.ReportMetric(at(50), "p50-µs")
	b.ReportMetric(at(99), "p99-µs")
}
