package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/dayfly-io/dayfly/bench/result"
)

// hotRatio is what is wanted of the requests per second, against going
// straight to the program, by the number of clients: what a plain proxy of
// net/http, which records nothing, reached on another day.
var hotRatio = map[string]float64{"1 clients": 0.42, "8 clients": 0.31, "32 clients": 0.38}

// The goals for memory and unpacking.
const (
	idleMB     = 60.0
	flatFactor = 1.2 // of the memory after a tenth of the calls
	unpackRate = 150 // MB per second
)

// The variants of hot, as measure names them; the ratios of hotMain are judged.
const (
	direct  = "direct, "
	proxied = "net/http proxy, "
	hotMain = "instances.max 4, per_instance 32, "
)

func hot(s *section) {
	rows := [][]string{{"", "requests/s", "ratio", "ratios, by round", "p50 us", "p99 us", "cpu in between, us/call"}}
	for _, variant := range s.Variants() {
		v := s.Values(variant, "per_second")
		at := strings.LastIndex(variant, ", ")
		if len(v) == 0 || at < 0 {
			continue
		}
		clients := variant[at+2:]
		cells := []string{variant, fmt.Sprintf("%.0f", result.Median(v)), "1", ""}
		if !strings.HasPrefix(variant, direct) {
			ratios := s.Ratios(variant, direct+clients, "per_second")
			var each []string
			for _, r := range ratios {
				each = append(each, fmt.Sprintf("%.2f", r))
			}
			cells[2], cells[3] = fmt.Sprintf("%.2f", result.Median(ratios)), strings.Join(each, ", ")
		}
		if strings.HasPrefix(variant, hotMain) {
			hotGoal(s, variant, clients)
		}
		cpu := result.Median(s.Values(variant, "server_cpu_us_per_request"))
		cpuText := ""
		if !math.IsNaN(cpu) {
			cpuText = fmt.Sprintf("%.1f", cpu)
		}
		rows = append(rows, append(cells, fmt.Sprintf("%.0f", result.Median(s.Values(variant, "p50_us"))),
			fmt.Sprintf("%.0f", result.Median(s.Values(variant, "p99_us"))), cpuText))
	}
	s.say("An `http` function that is hot, called as fast as it goes, against the same program in no container on the same " +
		"loopback. Medians of the rounds.\n\n")
	table(&s.text, rows...)
	s.say("- An instance takes as many requests at a time as `concurrency.per_instance` says, and there are as many instances as " +
		"callers need, up to `instances.max`; more callers wait in line. The wanted ratios are judged on `per_instance` 32, where " +
		"an instance takes its callers at once, as the plain program does in its one process. `per_instance` 1 is the default: " +
		"an instance, and so a process, per caller.\n" +
		"- \"net/http proxy\" is a process of its own in front of the plain program: a net/http server that passes requests on by " +
		"http.Transport, copies headers and body, and records nothing. Its ratio is what a plain net/http proxy reaches on this " +
		"machine in the same run; the wanted ratios are those of such a proxy on another day.\n" +
		"- The function has as many processors as the machine, as the plain program does.\n" +
		"- What is recorded: every call, as a run on disk. \"cpu in between\" is that of the server, which has that in it, or of " +
		"the proxy.\n\n")
	recorded(s)
}

// hotGoal judges a ratio, beside what the proxy reached in the same run.
func hotGoal(s *section, variant, clients string) {
	wanted, ok := hotRatio[clients]
	if !ok {
		return
	}
	median := result.Median(s.Ratios(variant, direct+clients, "per_second"))
	measured := fmt.Sprintf("%.2f", median)
	if proxy := result.Median(s.Ratios(proxied+clients, direct+clients, "per_second")); !math.IsNaN(proxy) {
		measured += fmt.Sprintf(" (net/http proxy: %.2f)", proxy)
	}
	s.goal(median >= wanted, "hot calls per second against none of us, "+variant, measured, fmt.Sprintf("at least %.2f", wanted))
}

func memory(s *section) {
	rows := [][]string{{"", "resident MB", "of it anonymous", "resident under load", "calls/s before"}}
	var calls, rss []float64
	for _, variant := range s.Variants() {
		v := s.Values(variant, "rss_bytes")
		if len(v) == 0 {
			continue
		}
		calls, rss = append(calls, s.Values(variant, "calls")[0]), append(rss, v[0])
		rows = append(rows, []string{
			variant, mb(v[0]), mb(s.Values(variant, "anon_bytes")[0]), mb(s.Values(variant, "busy_rss_bytes")[0]),
			fmt.Sprintf("%.0f", s.Values(variant, "per_second")[0]),
		})
	}
	if len(rss) > 2 {
		s.goal(rss[0] < idleMB*1e6, "memory of an idle server", mb(rss[0])+" MB", fmt.Sprintf("under %.0f MB", idleMB))
		last, tenth := len(rss)-1, 0
		for tenth < last && calls[tenth] < calls[last]/10 {
			tenth++
		}
		s.goal(rss[last] <= flatFactor*rss[tenth], fmt.Sprintf("memory after %.0f calls, against that after %.0f", calls[last], calls[tenth]),
			fmt.Sprintf("%s MB, %s MB", mb(rss[last]), mb(rss[tenth])), "flat: not over a fifth more")
		s.goal(rss[last] < idleMB*1e6, fmt.Sprintf("memory after %.0f calls, idle again", calls[last]), mb(rss[last])+" MB",
			fmt.Sprintf("under %.0f MB", idleMB))
	}
	s.say("Resident memory of the server's process (instances have their own), after a rest. Callers are hot calls of one function.\n\n")
	table(&s.text, rows...)
	recorded(s)
}

func mb(bytes float64) string { return fmt.Sprintf("%.1f", bytes/1e6) }

func unpack(s *section) {
	rows := [][]string{{"", "MB/s of layer, by round", "median", "seconds", "against tar"}}
	for _, variant := range s.Variants() {
		v := s.Values(variant, "mb_per_second")
		kind := variant[strings.LastIndex(variant, " ")+1:]
		if strings.HasPrefix(variant, "dayfly") {
			s.goal(result.Median(v) >= unpackRate, "loading an image, layer "+kind, fmt.Sprintf("%.0f MB/s", result.Median(v)),
				fmt.Sprintf("at least %d MB/s", unpackRate))
		}
		var each []string
		for _, x := range v {
			each = append(each, fmt.Sprintf("%.0f", x))
		}
		rows = append(rows, []string{
			variant, strings.Join(each, ", "), fmt.Sprintf("%.0f", result.Median(v)),
			fmt.Sprintf("%.2f", result.Median(s.Values(variant, "seconds_s"))),
			s.ratio(variant, "tar, "+kind, "mb_per_second"),
		})
	}
	s.say("An image with one layer (%.0f MB in %.0f files; %.0f MB compressed), from the request that sends it until it can "+
		"be used: read, verified by both digests, unpacked. MB are of the layer, unpacked.\n\n",
		first(s.Values("dayfly, plain", "layer_bytes"))/1e6, first(s.Values("dayfly, plain", "files")),
		first(s.Values("dayfly, gzip", "image_bytes"))/1e6)
	table(&s.text, rows...)
	s.say("- Every round has a layer that the server does not know, and new directories; nothing is removed meanwhile.\n" +
		"- \"tar\" is the command, on the layer alone: it verifies nothing and nothing is sent.\n\n")
}

func first(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	return v[0]
}
