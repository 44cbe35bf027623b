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
	containerP50 = 3.0  // ms, of a start, over that of a plain process
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

func runtimes(s *section) {
	rows := [][]string{{"first byte, ms", "n", "p50", "p90", "p99", "boot, p50"}}
	for _, variant := range s.Variants() {
		v := s.Values(variant, "first_byte_ms")
		rows = append(rows, []string{
			variant, fmt.Sprint(len(v)), msText(result.Quantile(v, 0.5)), msText(result.Quantile(v, 0.9)), msText(result.Quantile(v, 0.99)),
			msText(result.Median(s.Values(variant, "boot_ms"))),
		})
		language, ours := strings.CutSuffix(variant, ", function")
		if !ours {
			continue
		}
		cost := result.Quantile(v, 0.5) - result.Quantile(s.Values(language+", plain process", "first_byte_ms"), 0.5)
		s.goal(cost < containerP50, "cold start of a function in "+language+", over that of a plain process, p50", msText(cost)+" ms",
			fmt.Sprintf("under %.0f ms", containerP50))
	}
	s.say("Functions of base images made of Debian's packages (`test/base-images.sh`), with a web server of a few lines, network egress, as many " +
		"processors as the machine, called for the first time; and the same interpreter with the same files, started by fork and exec in a " +
		"chroot. Both take turns. The server has prepared sandboxes, as it has by default.\n\n")
	table(&s.text, rows...)
}
