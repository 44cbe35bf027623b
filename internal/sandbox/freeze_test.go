package sandbox_test

import (
	"slices"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/drivertest"
)

// BenchmarkThaw reports what it takes to freeze a web server, to thaw it, and
// to thaw it and have its answer; in microseconds, the median.
func BenchmarkThaw(b *testing.B) {
	f := newFixture(b)
	image := f.load(b, drivertest.Tar(b, drivertest.Base(b, drivertest.Misbehave)))
	p := drivertest.Start(b, f.driver, drivertest.Spec(image, "serve", "127.0.0.1:8080"), nil)
	p.Out.Await(b, "listening")
	c, err := f.driver.Dial(b.Context(), p.ID, 8080)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var freeze, thaw, answer []time.Duration
	for b.Loop() {
		drivertest.Get(b, c, "/") // it is at rest
		began := time.Now()
		if err := f.driver.Freeze(b.Context(), p.ID); err != nil {
			b.Fatal(err)
		}
		frozen := time.Now()
		if err := f.driver.Thaw(b.Context(), p.ID); err != nil {
			b.Fatal(err)
		}
		thawed := time.Now()
		drivertest.Get(b, c, "/")
		freeze, thaw, answer = append(freeze, frozen.Sub(began)), append(thaw, thawed.Sub(frozen)), append(answer, time.Since(frozen))
	}
	for name, list := range map[string][]time.Duration{"freeze": freeze, "thaw": thaw, "thaw+answer": answer} {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2])/float64(time.Microsecond), name+"_µs")
	}
}
