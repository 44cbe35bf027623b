package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/dayfly-io/dayfly/bench/result"
)

// The goals for cold starts, in ms.
const (
	coldP50      = 6
	coldP99      = 25
	prewarmedP50 = 4
	cycleRate    = 200 // per second
	// fasterThanDocker is the ratio of the medians of both drivers.
	fasterThanDocker = 20
)

func msText(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func cold(s *section) {
	const first = "first_byte_ms"
	for _, network := range []string{"egress", "none"} {
		v := s.Values("cold, "+network, first)
		p50, p99 := result.Quantile(v, 0.5), result.Quantile(v, 0.99)
		s.goal(p50 <= coldP50, "cold start, network "+network+", p50", msText(p50)+" ms", fmt.Sprintf("at most %d ms", coldP50))
		s.goal(p99 <= coldP99, "cold start, network "+network+", p99", msText(p99)+" ms", fmt.Sprintf("at most %d ms", coldP99))
		p50 = result.Quantile(s.Values("prewarmed, "+network, first), 0.5)
		s.goal(p50 <= prewarmedP50, "cold start in a prepared sandbox, network "+network+", p50", msText(p50)+" ms",
			fmt.Sprintf("at most %d ms", prewarmedP50))
		if docker := s.Values("docker driver, "+network, first); len(docker) > 0 {
			times := result.Quantile(docker, 0.5) / result.Quantile(v, 0.5)
			s.goal(times >= fasterThanDocker, "cold start, nothing prepared, network "+network+", against the docker driver, p50",
				fmt.Sprintf("%.0f times faster", times), fmt.Sprintf("at least %d times", fasterThanDocker))
		}
	}
	s.say("From before the request is written to a connection that is kept, until the first byte of the answer, one " +
		"caller, milliseconds; for the others from the decision to start the program until the first byte of its answer.\n\n")
	rows := [][]string{{"", "n", "p50", "p90", "p99", "max", "p50 / plain", "teardown p50"}}
	for _, variant := range s.Variants() {
		v := s.Values(variant, first)
		rows = append(rows, []string{
			variant, fmt.Sprint(len(v)), msText(result.Quantile(v, 0.5)), msText(result.Quantile(v, 0.9)),
			msText(result.Quantile(v, 0.99)), msText(result.Quantile(v, 1)),
			s.ratio(variant, plain, first),
			msText(result.Quantile(s.Values(variant, "teardown_ms"), 0.5)),
		})
	}
	table(&s.text, rows...)
	coldPhases(s)
	s.say("- Each of our calls is the first one of a function of its own, deployed before and deleted after it; all have " +
		"one image, whose layer was unpacked when it was loaded and is in the page cache. An image that must be fetched " +
		"first takes as long as the network does.\n" +
		"- \"cold\" is a server with `--prepared -1`: nothing is made ahead. \"prewarmed\" is the default: four sandboxes per " +
		"network wait, belonging to no function, and are filled up again within the 100 ms between two calls.\n" +
		"- \"docker driver\" is the same server with `--driver docker`, in the engine that \"docker run\" is measured in.\n" +
		"- \"plain fork+exec\" is the same program in no container: most of its time is the start of a Go program. " +
		"runc and Docker get the limits and filter that a function gets, from an image that is unpacked; Docker by its " +
		"API (create, start, inspect), runc by its command.\n" +
		"- Our teardown is that of deleting the function by the API, until no instance is listed: it has a disk write in it.\n\n")
}

const plain = "plain fork+exec"

// coldPhases tells where the time of a cold start goes.
func coldPhases(s *section) {
	s.say("Where it goes, by the record of the runs, p50 in milliseconds:\n\n")
	rows := [][]string{{"", "image", "sandbox", "boot", "run", "the rest"}}
	for _, variant := range s.Variants() {
		boot := s.Values(variant, "boot_ms")
		if len(boot) == 0 {
			continue
		}
		cells, parts := []string{variant}, []string{"image_ms", "sandbox_ms", "boot_ms", "run_ms"}
		for _, p := range parts {
			cells = append(cells, msText(result.Median(s.Values(variant, p))))
		}
		rest := s.Values(variant, "first_byte_ms")
		for _, p := range parts {
			for i, v := range s.Values(variant, p) {
				rest[i] -= v
			}
		}
		rows = append(rows, append(cells, msText(result.Median(rest))))
	}
	table(&s.text, rows...)
	s.say("\"boot\" is from exec until the program listens, \"run\" from the request's handing over until the end of its " +
		"answer, \"the rest\" is the way through client, HTTP and pool.\n\n")
}

func coldRate(s *section) {
	const rate = "cycles_per_second"
	rows := [][]string{{"", "cycles per second, by round", "median", "alive at the end", "hot by chance"}}
	for _, variant := range s.Variants() {
		v := s.Values(variant, rate)
		if len(v) == 0 {
			continue
		}
		if variant != plain {
			s.goal(result.Median(v) >= cycleRate, "cold starts with teardown per second, "+variant,
				fmt.Sprintf("%.0f", result.Median(v)), fmt.Sprintf("at least %d", cycleRate))
		}
		var each []string
		for _, x := range v {
			each = append(each, fmt.Sprintf("%.0f", x))
		}
		rows = append(rows, []string{
			variant, strings.Join(each, ", "), fmt.Sprintf("%.0f", result.Median(v)),
			count(s.Values(variant, "alive_at_end")), count(s.Values(variant, "hot")),
		})
	}
	s.say("Four callers without a pause. A cycle is a cold start, an answer and a teardown; an instance that is still " +
		"there when the time is up does not count, nor does a call that found a hot one.\n\n")
	table(&s.text, rows...)
	s.say("- \"job\": a process per run, whose output is the answer.\n" +
		"- \"http\": a web server that is called once; `instances.idle` is 1 ms, so that the look every second ends it. " +
		"As many functions take turns that none is called again before.\n" +
		"- \"plain fork+exec\": the web server in no container, asked once and killed, at the same number of callers.\n\n")
	censuses(s)
	recorded(s)
}

// censuses tells what was there before and after.
func censuses(s *section) {
	rows := [][]string{{"left behind", "processes", "mounts", "links", "cgroups"}}
	for _, variant := range []string{
		"census, before the server", "census, idle before", "census, idle after", "census, after the server",
	} {
		cells := []string{strings.TrimPrefix(variant, "census, ")}
		for _, what := range []string{"processes", "mounts", "links", "cgroups"} {
			cells = append(cells, msCount(s.Values(variant, what)))
		}
		rows = append(rows, cells)
	}
	table(&s.text, rows...)
}

func msCount(v []float64) string {
	if len(v) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", v[0])
}

func count(v []float64) string {
	if len(v) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", result.Sum(v))
}

// recorded tells how the calls compare with the runs on disk.
func recorded(s *section) {
	answered := s.Values("recorded", "answered")
	if len(answered) == 0 {
		return
	}
	s.say("Recorded: %.0f calls were answered (warming up included), %.0f runs are on disk, %.0f of them succeeded.\n\n",
		answered[0], s.Values("recorded", "rows")[0], s.Values("recorded", "succeeded")[0])
}
