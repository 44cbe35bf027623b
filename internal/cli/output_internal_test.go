package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

func TestTextForPeople(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct{ got, want string }{
		{span(0), "0µs"},
		{span(12 * time.Microsecond), "12µs"},
		{span(1500 * time.Microsecond), "1.5ms"},
		{span(99960 * time.Microsecond), "100ms"},
		{span(999960 * time.Microsecond), "1000ms"},
		{span(12340 * time.Millisecond), "12.3s"},
		{span(10 * time.Second), "10s"},
		{span(60 * time.Second), "1m"},
		{span(90 * time.Second), "1m30s"},
		{span(2 * time.Hour), "2h"},
		{limit(api.Duration(90 * time.Second)), "1m30s"},
		{limit(api.Duration(20 * time.Minute)), "20m"},
		{limit(api.Duration(10 * time.Hour)), "10h"},
		{limit(api.Duration(30 * time.Second)), "30s"},
		{size(0), "0B"},
		{size(1023), "1023B"},
		{size(1536), "1.5KiB"},
		{size(1<<20 - 1), "1024KiB"},
		{size(100 << 20), "100MiB"},
		{size(3 << 40), "3TiB"},
		{ago(now, now.Add(time.Hour)), "now"},
		{ago(now, now.Add(-59*time.Second)), "59s ago"},
		{ago(now, now.Add(-119*time.Minute)), "1h ago"},
		{ago(now, now.Add(-47*time.Hour)), "47h ago"},
		{ago(now, now.Add(-72*time.Hour)), "3d ago"},
		{ago(now, time.Time{}), ""},
		{shortDigest("sha256:0123456789abcdef"), "0123456789ab"},
		{shortDigest("hello:1"), "hello:1"},
		{printable("a\x1b[31m\tb\x00\u0085"), "a\uFFFD[31m\tb\uFFFD\uFFFD"},
		{paint("failed"), "\x1b[31mfailed\x1b[0m"},
		{paint("other"), "other"},
		{quoteWords([]string{"/app", "", "a b"}), `/app "" "a b"`},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestRowsAreAlignedByCharacter(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &session{Program: Program{Stdout: &out}}
	if err := s.printRows([][]string{{"A", "B", "C"}, {"æøå", "x\x1b\n", ""}}); err != nil {
		t.Fatal(err)
	}
	if want := "A    B    C\næøå  x\uFFFD   -\n"; out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestStatesAreAllOfTheAPI(t *testing.T) {
	t.Parallel()
	final := 0
	for _, s := range states {
		if s.Final() {
			final++
		}
	}
	if len(states) != 8 || final != 5 {
		t.Errorf("--state knows %v", states)
	}
}
