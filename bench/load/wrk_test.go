package load

import (
	"testing"
	"time"
)

const printed = `Running 3s test @ http://127.0.0.1:1/f/bench/hot
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   402.06us  780.18us  11.49ms   92.68%
    Req/Sec    34.41k     2.36k   39.10k    70.00%
  Latency Distribution
     50%  187.00us
     75%  351.00us
     90%  0.92ms
     99%    3.97ms
  102720 requests in 3.00s, 38.33MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 20
Requests/sec:  34227.11
Transfer/sec:     12.77MB
`

func TestParseWrk(t *testing.T) {
	t.Parallel()
	r, err := parseWrk([]byte(printed))
	if err != nil {
		t.Fatal(err)
	}
	want := Result{Requests: 102700, Errors: 23, Seconds: 3, P50: 187 * time.Microsecond, P99: 3970 * time.Microsecond, PerSecond: 102700.0 / 3}
	if r != want {
		t.Errorf("got %+v, want %+v", r, want)
	}
	if _, err := parseWrk([]byte("unable to connect")); err == nil {
		t.Error("an output without a number of requests is taken for one")
	}
}
