package report_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/bench/report"
	"github.com/dayfly-io/dayfly/bench/result"
)

// measured writes the results of a short run of hot.
func measured(t *testing.T, dir string, ours float64) {
	t.Helper()
	w, err := result.Create(dir, result.Machine{Measure: "hot", StartedAt: time.Unix(1e9, 0), Cores: 2})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		for variant, v := range map[string]float64{
			"direct, 8 clients": 1000, "net/http proxy, 8 clients": 350,
			"instances.max 4, per_instance 32, 8 clients": ours, "instances.max 32, per_instance 1, 8 clients": 200,
		} {
			if err := w.Sample(round, variant, map[string]float64{"per_second": v, "p50_us": 7, "p99_us": 9}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := w.Close(true); err != nil {
		t.Fatal(err)
	}
}

func TestPageSaysWhatWasMeasured(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ours float64
		want string
	}{
		{400, "| hot calls per second against none of us, instances.max 4, per_instance 32, 8 clients | 0.40 (net/http proxy: 0.35) | at least 0.31 | met |"},
		{300, "| hot calls per second against none of us, instances.max 4, per_instance 32, 8 clients | 0.30 (net/http proxy: 0.35) | at least 0.31 | missed |"},
	} {
		dir := t.TempDir()
		measured(t, dir, c.ours)
		page := filepath.Join(dir, "performance.md")
		if err := report.Write(page, dir); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{c.want, "## Cold start\n\nNot measured yet.", "hot/20010909T014640Z.jsonl"} {
			if !strings.Contains(string(b), want) {
				t.Errorf("the page does not say %q:\n%s", want, b)
			}
		}
		if strings.Contains(string(b), "against none of us, instances.max 32") {
			t.Errorf("a shape is judged that is only shown:\n%s", b)
		}
		if strings.Contains(string(b), "NaN") {
			t.Errorf("the page has numbers that are none:\n%s", b)
		}
	}
}

func TestPageNeedsResults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := report.Write(filepath.Join(dir, "performance.md"), dir); err == nil {
		t.Error("a page was written of nothing")
	}
}
