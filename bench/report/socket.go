package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/dayfly-io/dayfly/bench/result"
)

// The variants of fdk, as measure names them.
const (
	overSockets = "net/http proxy over sockets, "
	ofFDK       = "fdk, "
)

// fdkP99 is what is wanted of the slowest at 32 clients, in ms.
const fdkP99 = 15

func fdk(s *section) {
	rows := [][]string{{"", "requests/s", "ratio", "ratios, by round", "p50 us", "p99 us", "cpu in between, us/call"}}
	for _, variant := range s.Variants() {
		v := s.Values(variant, "per_second")
		at := strings.LastIndex(variant, ", ")
		if len(v) == 0 || at < 0 {
			continue
		}
		clients := variant[at+2:]
		cells := []string{variant, fmt.Sprintf("%.0f", result.Median(v)), "1", ""}
		p99 := result.Median(s.Values(variant, "p99_us"))
		if strings.HasPrefix(variant, ofFDK) {
			ratios := s.Ratios(variant, overSockets+clients, "per_second")
			var each []string
			for _, r := range ratios {
				each = append(each, fmt.Sprintf("%.2f", r))
			}
			median := result.Median(ratios)
			cells[2], cells[3] = fmt.Sprintf("%.2f", median), strings.Join(each, ", ")
			s.goal(median >= 1, "hot calls per second of the contract fdk, against a net/http proxy over sockets, "+clients, cells[2], "at least 1")
			if clients == "32 clients" {
				s.goal(p99 < 1000*fdkP99, "hot call of the contract fdk, "+clients+", p99", fmt.Sprintf("%.1f ms", p99/1000), fmt.Sprintf("under %d ms", fdkP99))
			}
		}
		cpu := ""
		if c := result.Median(s.Values(variant, "server_cpu_us_per_request")); !math.IsNaN(c) {
			cpu = fmt.Sprintf("%.1f", c)
		}
		rows = append(rows, append(cells, fmt.Sprintf("%.0f", result.Median(s.Values(variant, "p50_us"))), fmt.Sprintf("%.0f", p99), cpu))
	}
	s.say("A function that listens on a Unix socket and takes one request at a time, called as fast as it goes, against a proxy of net/http that " +
		"does nothing but spread its requests over as many processes of the same program, in no containers. Medians of the rounds.\n\n")
	table(&s.text, rows...)
	recorded(s)
}
