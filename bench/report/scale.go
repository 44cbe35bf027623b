package report

import (
	"fmt"
	"strings"

	"github.com/dayfly-io/dayfly/bench/result"
)

// The goals for many functions and many frozen instances.
const (
	manyStart    = 3.0  // s, of a server with 100,000 functions
	manySlower   = 1.05 // of the calls per second with few, what is no difference here
	frozenMemory = 1.0  // MB of the server for an instance
	thawP50      = 1.0  // ms
)

func functions(s *section) {
	variants := s.Variants()
	if len(variants) < 2 {
		return
	}
	few, many := variants[0], variants[1]
	start := result.Median(s.Values(many, "start_ms")) / 1000
	s.goal(start < manyStart, "start of a server with "+many, fmt.Sprintf("%.2f s", start), fmt.Sprintf("under %.0f s", manyStart))
	slower := result.Median(s.Ratios(many, few, "p50_us"))
	s.goal(slower <= manySlower, "a hot call among "+many+", against "+few, fmt.Sprintf("%.2f of the time (p50)", slower), "no slower (5 % is no difference)")
	s.say("Two servers that differ in the number of registered functions. A start is from before the process is made until it says " +
		"that it is ready, on the data directory of a server before it; calls are hot, of one function, by one caller.\n\n")
	rows := [][]string{{"", "start ms, each", "resident MB", "requests/s", "p50 us", "p99 us"}}
	for _, v := range variants {
		var starts []string
		for _, ms := range s.Values(v, "start_ms") {
			starts = append(starts, fmt.Sprintf("%.0f", ms))
		}
		rows = append(rows, []string{
			v, strings.Join(starts, ", "), mb(result.Median(s.Values(v, "rss_bytes"))),
			fmt.Sprintf("%.0f", result.Median(s.Values(v, "per_second"))),
			fmt.Sprintf("%.0f", result.Median(s.Values(v, "p50_us"))), fmt.Sprintf("%.0f", result.Median(s.Values(v, "p99_us"))),
		})
	}
	table(&s.text, rows...)
}

func frozen(s *section) {
	instances, rss := s.Values("held", "instances"), s.Values("held", "rss_bytes")
	if len(instances) > 1 {
		last := len(instances) - 1
		each := (rss[last] - rss[0]) / (instances[last] - instances[0]) / 1e6
		s.goal(each < frozenMemory, fmt.Sprintf("memory of the server for each of %.0f frozen instances", instances[last]),
			fmt.Sprintf("%.3f MB", each), fmt.Sprintf("under %.0f MB", frozenMemory))
	}
	frozen, hot := s.Values("thaw", "frozen_us"), s.Values("thaw", "hot_us")
	thaw := (result.Quantile(frozen, 0.5) - result.Quantile(hot, 0.5)) / 1000
	s.goal(thaw < thawP50, "thaw of an instance, among all of them, p50", fmt.Sprintf("%.2f ms", thaw), fmt.Sprintf("under %.0f ms", thawP50))
	s.say("Instances of the hello, each that of a function of its own, with a network and a limit of 8 MiB, all frozen. Memory is that of the " +
		"server's process; what an instance has itself is the kernel's to tell.\n\n")
	rows := [][]string{{"frozen instances", "resident MB", "of it anonymous", "processor of the server, idle"}}
	anon, idle := s.Values("held", "anon_bytes"), s.Values("held", "idle_cpu_percent")
	for i := range instances {
		rows = append(rows, []string{fmt.Sprintf("%.0f", instances[i]), mb(rss[i]), mb(anon[i]), fmt.Sprintf("%.1f %%", idle[i])})
	}
	table(&s.text, rows...)
	rows = [][]string{{"first byte, us", "p50", "p90", "p99"}}
	for _, kind := range []struct {
		name   string
		values []float64
	}{{"of a call to a frozen instance", frozen}, {"of the next call to the same", hot}} {
		cells := []string{kind.name}
		for _, q := range []float64{0.5, 0.9, 0.99} {
			cells = append(cells, fmt.Sprintf("%.0f", result.Quantile(kind.values, q)))
		}
		rows = append(rows, cells)
	}
	table(&s.text, rows...)
}
