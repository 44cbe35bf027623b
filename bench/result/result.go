package result

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Sample is one measurement: the values of one variant in one round.
type Sample struct {
	Round   int    `json:"round"`
	Variant string `json:"variant"`
	// AtSeconds is when it was taken, since the run began.
	AtSeconds float64 `json:"at_s"`
	// Values have their unit at the end of their name: _ms, _us, _s, _bytes.
	Values map[string]float64 `json:"values"`
}

// line is a line of the file; one of its fields is set.
type line struct {
	Machine *Machine `json:"machine,omitempty"`
	Sample  *Sample  `json:"sample,omitempty"`
	Note    string   `json:"note,omitempty"`
	End     float64  `json:"end_s,omitempty"`
}

// Run is one run of a measure.
type Run struct {
	Machine Machine
	Samples []Sample
	Notes   []string
	// Seconds is how long it took, 0 for one that did not come to its end.
	Seconds float64
}

// Values gives what a variant measured of one thing, in the order in which it
// was taken.
func (r *Run) Values(variant, name string) []float64 {
	var out []float64
	for _, s := range r.Samples {
		if v, ok := s.Values[name]; ok && s.Variant == variant {
			out = append(out, v)
		}
	}
	return out
}

// Variants gives the names of the variants, in the order in which they first
// appear.
func (r *Run) Variants() []string {
	var out []string
	for _, s := range r.Samples {
		if !slices.Contains(out, s.Variant) {
			out = append(out, s.Variant)
		}
	}
	return out
}

// Ratios divides, round by round, what two variants measured of one thing:
// the medians of each within the round.
func (r *Run) Ratios(variant, base, name string) []float64 {
	rounds := map[int][2][]float64{}
	var order []int
	for _, s := range r.Samples {
		v, ok := s.Values[name]
		if !ok || (s.Variant != variant && s.Variant != base) {
			continue
		}
		if _, seen := rounds[s.Round]; !seen {
			order = append(order, s.Round)
		}
		pair := rounds[s.Round]
		side := 0
		if s.Variant == base {
			side = 1
		}
		pair[side] = append(pair[side], v)
		rounds[s.Round] = pair
	}
	var out []float64
	for _, n := range order {
		pair := rounds[n]
		if len(pair[0]) > 0 && len(pair[1]) > 0 && Median(pair[1]) != 0 {
			out = append(out, Median(pair[0])/Median(pair[1]))
		}
	}
	return out
}

// Writer writes a run to its file while it goes on. It may be used
// concurrently.
type Writer struct {
	mu    sync.Mutex
	file  *os.File
	began time.Time
	run   Run
}

// Create begins the file of a run: dir/measure/instant.jsonl.
func Create(dir string, m Machine) (*Writer, error) {
	dir = filepath.Join(dir, m.Measure)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of results: %w", err)
	}
	f, err := os.Create(filepath.Join(dir, m.StartedAt.UTC().Format("20060102T150405Z")+".jsonl"))
	if err != nil {
		return nil, fmt.Errorf("make the file of results: %w", err)
	}
	w := &Writer{file: f, began: time.Now(), run: Run{Machine: m}}
	return w, w.write(line{Machine: &m})
}

// Path gives the path of the file.
func (w *Writer) Path() string { return w.file.Name() }

func (w *Writer) write(l line) error {
	b, err := json.Marshal(l)
	if err == nil {
		_, err = w.file.Write(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write a result: %w", err)
	}
	return nil
}

// Sample notes a measurement.
func (w *Writer) Sample(round int, variant string, values map[string]float64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, v := range values {
		values[name] = float64(int64(v*1e4+0.5)) / 1e4
	}
	s := Sample{Round: round, Variant: variant, AtSeconds: seconds(time.Since(w.began)), Values: values}
	w.run.Samples = append(w.run.Samples, s)
	return w.write(line{Sample: &s})
}

// Note notes something that a reader of the results is to know.
func (w *Writer) Note(format string, args ...any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	w.run.Notes = append(w.run.Notes, text)
	return w.write(line{Note: text})
}

// Close ends the file. whole says that the run came to its end.
func (w *Writer) Close(whole bool) (*Run, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var err error
	if whole {
		w.run.Seconds = max(seconds(time.Since(w.began)), 0.001) // 0 says that there was no end
		err = w.write(line{End: w.run.Seconds})
	}
	return &w.run, errors.Join(err, w.file.Close())
}

func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1e3 }

// Read reads the file of a run.
func Read(path string) (*Run, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	r := &Run{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("read line %d of %s: %w", n, path, err)
		}
		switch {
		case l.Machine != nil:
			r.Machine = *l.Machine
		case l.Sample != nil:
			r.Samples = append(r.Samples, *l.Sample)
		case l.Note != "":
			r.Notes = append(r.Notes, l.Note)
		case l.End != 0:
			r.Seconds = l.End
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

// Newest finds the newest run of a measure that came to its end; nil when
// there is none.
func Newest(dir, measure string) (*Run, string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, measure, "*.jsonl"))
	if err != nil {
		return nil, "", fmt.Errorf("look for results: %w", err)
	}
	slices.Sort(paths) // the names are instants
	for _, path := range slices.Backward(paths) {
		r, err := Read(path)
		if err != nil {
			return nil, "", err
		}
		if r.Seconds > 0 {
			return r, path, nil
		}
	}
	return nil, "", nil
}
