package logstore_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/logstore"
)

func chunk(run core.RunID, text string) core.LogChunk {
	return core.LogChunk{AppID: 1, FunctionID: 2, Run: run, Instance: 3, Lines: []core.LogLine{
		{Instance: 3, Run: run, Stream: core.StreamStderr, Sequence: 1, Time: time.Unix(1_800_000_000, 0).UTC(), Text: text},
	}}
}

func TestAFullDiskIsSaidAndPasses(t *testing.T) {
	t.Parallel()
	s := open(t, logstore.Options{})
	if err := s.AppendLogs(t.Context(), []core.LogChunk{chunk(1, "first")}); err != nil {
		t.Fatal(err)
	}
	large := []core.LogChunk{chunk(2, strings.Repeat("x", 1<<20))}
	if err := s.MaxPages(t.Context(), 50); err != nil {
		t.Fatal(err)
	}
	err := s.AppendLogs(t.Context(), large)
	if !core.IsKind(err, core.KindUnavailable) || core.AsError(err).Code != core.ReasonDiskFull {
		t.Fatalf("appending to a full file: %v", err)
	}
	if lines, err := s.Logs(t.Context(), 1, 0, 10); err != nil || len(lines) != 1 {
		t.Fatalf("reading from a full file: %v, %v", lines, err)
	}
	if err := s.MaxPages(t.Context(), 100_000); err != nil {
		t.Fatal(err)
	}
	if err := s.AppendLogs(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	if lines, err := s.Logs(t.Context(), 2, 0, 10); err != nil || !reflect.DeepEqual(lines, large[0].Lines) {
		t.Fatalf("after there was room again: %d lines, %v", len(lines), err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte{})
	f.Add(logstore.Pack(chunk(1, "text").Lines))
	f.Fuzz(func(t *testing.T, b []byte) {
		lines, err := logstore.Unpack(b, 1, 3)
		if err != nil {
			return
		}
		again, err := logstore.Unpack(logstore.Pack(lines), 1, 3)
		if err != nil || !reflect.DeepEqual(again, lines) {
			t.Fatalf("%d lines come back as %d, %v", len(lines), len(again), err)
		}
		if len(lines) > 0 && !bytes.Contains(b, []byte(lines[0].Text)) {
			t.Fatalf("the text %q is not in the chunk", lines[0].Text)
		}
	})
}

// BenchmarkAppendLogs tells what ten lines of a run, 900 bytes, cost in
// batches of 500 runs.
func BenchmarkAppendLogs(b *testing.B) {
	s := open(b, logstore.Options{})
	batch := make([]core.LogChunk, 500)
	for i := range batch {
		batch[i] = chunk(core.RunID(i+1), strings.Repeat("x", 85))
		for len(batch[i].Lines) < 10 {
			batch[i].Lines = append(batch[i].Lines, batch[i].Lines[0])
		}
	}
	run := core.RunID(0)
	for b.Loop() {
		for i := range batch {
			run++
			batch[i].Run = run
		}
		if err := s.AppendLogs(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(run), "ns/run")
}
