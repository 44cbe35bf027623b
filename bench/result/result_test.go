package result_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/bench/result"
)

func TestStatistics(t *testing.T) {
	t.Parallel()
	values := []float64{5, 1, 4, 2, 3}
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"median of five", result.Median(values), 3},
		{"median of four", result.Median(values[:4]), 3},
		{"p50", result.Quantile(values, 0.5), 3},
		{"p90", result.Quantile(values, 0.9), 5},
		{"p0", result.Quantile(values, 0), 1},
		{"p100", result.Quantile(values, 1), 5},
		{"sum", result.Sum(values), 15},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, c.got, c.want)
		}
	}
	if !math.IsNaN(result.Median(nil)) || !math.IsNaN(result.Quantile(nil, 0.5)) {
		t.Error("nothing has a middle")
	}
}

func TestRunIsReadAsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w, err := result.Create(dir, result.Machine{Measure: "hot", StartedAt: time.Unix(1e9, 0), Cores: 2})
	if err != nil {
		t.Fatal(err)
	}
	for round, v := range [][2]float64{{50, 100}, {30, 120}, {90, 100}} {
		for i, variant := range []string{"ours", "theirs"} {
			if err := w.Sample(round, variant, map[string]float64{"per_second": v[i]}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Note("a %s", "note"); err != nil {
		t.Fatal(err)
	}
	if r, _, err := result.Newest(dir, "hot"); err != nil || r != nil {
		t.Errorf("a run that goes on is taken for a whole one: %v, %v", r, err)
	}
	if _, err := w.Close(true); err != nil {
		t.Fatal(err)
	}
	r, path, err := result.Newest(dir, "hot")
	if err != nil || r == nil {
		t.Fatalf("got %v, %v", r, err)
	}
	if path != w.Path() || r.Machine.Cores != 2 || !slices.Equal(r.Notes, []string{"a note"}) {
		t.Errorf("got %s: %+v", path, r)
	}
	if got := r.Ratios("ours", "theirs", "per_second"); !slices.Equal(got, []float64{0.5, 0.25, 0.9}) {
		t.Errorf("got the ratios %v", got)
	}
	if got := r.Variants(); !slices.Equal(got, []string{"ours", "theirs"}) {
		t.Errorf("got the variants %v", got)
	}
}
