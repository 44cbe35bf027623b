package invoke_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// printer is a job that prints the pieces to stderr.
func printer(pieces ...string) program {
	return program{main: func(_ context.Context, in *instance) int {
		for _, p := range pieces {
			in.print(2, p)
		}
		return 0
	}}
}

func TestLines(t *testing.T) {
	t.Parallel()
	const most = 16 << 10
	long := strings.Repeat("x", most)
	for name, tc := range map[string]struct{ in, want []string }{
		"lines":                   {[]string{"a\nb\r\n\nc\n"}, []string{"a", "b", "", "c"}},
		"last without end":        {[]string{"a\nb"}, []string{"a", "b"}},
		"in pieces":               {[]string{"a", "b\nc", "", "\r", "\n", "\n"}, []string{"ab", "c", ""}},
		"carriage return inside":  {[]string{"a\rb\r\r\n"}, []string{"a\rb\r"}},
		"invalid text":            {[]string{"a\xffb\n\xe2\x82\n"}, []string{"a\uFFFDb", "\uFFFD"}},
		"longest":                 {[]string{long + "\n"}, []string{long}},
		"longest, end comes late": {[]string{long, "\n"}, []string{long}},
		"longer":                  {[]string{long + "yz\n"}, []string{long, "yz"}},
		"longer in pieces":        {[]string{long, "yz", "\nb"}, []string{long, "yz", "b"}},
		"broken between letters":  {[]string{long[1:] + "€uro\n"}, []string{long[1:], "€uro"}},
		"letters in pieces":       {[]string{long[1:], "\xe2", "\x82", "\xacuro\n"}, []string{long[1:], "€uro"}},
		"nothing":                 {nil, nil},
	} {
		inWorld(t, map[string]program{"job": printer(tc.in...)}, func(w *world) {
			c := w.call("job", "")
			if got := w.log(c.run.ID); !slices.Equal(got, tc.want) && len(got)+len(tc.want) > 0 {
				t.Errorf("%s: got %.100q, want %.100q", name, got, tc.want)
			}
		})
	}
}

// However what is printed comes in pieces, the lines are the same.
func TestLinesInPieces(t *testing.T) {
	t.Parallel()
	for range 20 {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		var b strings.Builder
		for range 40 {
			switch r.IntN(8) {
			case 0:
				b.WriteString(strings.Repeat("é€𝄞x"[:1+r.IntN(9)], r.IntN(9000)))
			case 1:
				b.WriteString("\xff\r")
			default:
				fmt.Fprintf(&b, "line %d", r.IntN(1000))
			}
			b.WriteString([]string{"\n", "\r\n", "\n\n", ""}[r.IntN(4)])
		}
		text := b.String()
		var pieces []string
		for rest := text; rest != ""; {
			n := min(1+r.IntN([]int{3, 100, 20_000}[r.IntN(3)]), len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		inWorld(t, map[string]program{"job": printer(pieces...), "job-whole": printer(text)}, func(w *world) {
			got, want := w.log(w.call("job", "").run.ID), w.log(w.call("job-whole", "").run.ID)
			if !slices.Equal(got, want) {
				t.Errorf("seed %d: %d lines in pieces, %d at once", seed, len(got), len(want))
			}
			if len(want) < 5 || strings.TrimRight(want[0], "\n") == "" && len(text) == 0 {
				t.Errorf("seed %d: only %d lines", seed, len(want))
			}
		})
	}
}

func TestLogIsCut(t *testing.T) {
	t.Parallel()
	line := strings.Repeat("x", 99) + "\n"
	inWorld(t, map[string]program{"job": printer(strings.Repeat(line, 50), "::progress 9 still read\n", "the last")}, func(w *world) {
		w.spec("job", func(s *core.Spec) { s.Limits.Log = 1000 })
		c := w.call("job", "")
		for range 2 { // in memory, then on disk
			lines, err := w.Logs(w.Context(), me, c.run.ID, 0, 1000)
			if err != nil || len(lines) != 11 {
				t.Fatalf("%d lines, %v; want 10 and a mark", len(lines), err)
			}
			for i, l := range lines {
				if l.Sequence != int64(i+1) || (l.Stream == core.StreamSystem) != (i == 10) || i < 10 && l.Text != line[:99] {
					t.Errorf("line %d is %+v", i, l)
				}
			}
			if !strings.Contains(lines[10].Text, "1000B, which is limits.log") {
				t.Errorf("the mark is %q", lines[10].Text)
			}
			w.flushed()
		}
		if c.run.LogBytes != 5000+24+9 || c.run.Progress != 9 || c.run.ProgressText != "still read" {
			t.Errorf("the run has %+v", c.run)
		}
	})
}

func TestProgress(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"::progress 42 half\n": "42 half", "::progress 7\n": "7 ", "::progress 100 a b\n": "100 a b", "::progress 101 x\n": "-1 ", "::progress -1 x\n": "-1 ",
		"::progress x\n": "-1 ", " ::progress 1\n": "-1 ", "::progress\n": "-1 ", "::progress 1 a\n::progress 2 b\n": "2 b",
	} {
		inWorld(t, map[string]program{"job": printer(in)}, func(w *world) {
			run := w.call("job", "").run
			if got := fmt.Sprintf("%d %s", run.Progress, run.ProgressText); got != want {
				t.Errorf("%q: got %q, want %q", in, got, want)
			}
		})
	}
}

// What an instance prints between runs is no run's.
func TestLinesBetweenRuns(t *testing.T) {
	t.Parallel()
	var last *instance
	inWorld(t, map[string]program{"f": {serve: func(in *instance, _ writer, _ *request) {
		last = in
		in.print(1, "in the run, without an end")
	}}}, func(w *world) {
		for range 2 {
			c := w.call("f", "")
			if got := w.log(c.run.ID); !slices.Equal(got, []string{"in the run, without an end"}) {
				t.Errorf("the log is %q", got)
			}
			last.print(1, "between\nbetween without an end")
			last.print(2, "on the other stream")
		}
	})
}

// A follower sees every line once, in order, while lines are written to the
// store and the run ends.
func TestFollow(t *testing.T) {
	t.Parallel()
	for range 15 {
		seed := rand.Uint64()
		var want []string
		inWorld(t, map[string]program{"job": {main: func(_ context.Context, in *instance) int {
			r := rand.New(rand.NewPCG(seed, 0))
			for i := range 3000 {
				in.print(2, fmt.Sprintf("line %d\n", i))
				if r.IntN(20) == 0 {
					time.Sleep(time.Duration(r.Int64N(int64(100 * time.Millisecond)))) // of the bubble
				}
			}
			return 0
		}}}, func(w *world) {
			for i := range 3000 {
				want = append(want, fmt.Sprintf("line %d", i))
			}
			c, run := w.going("job", "")
			r := rand.New(rand.NewPCG(seed, 1))
			type follower struct {
				after int64
				got   []core.LogLine
				run   core.Run
				err   error
				done  chan struct{}
			}
			var followers []*follower
			for range 6 {
				f := &follower{after: int64(r.IntN(3)) * 500, done: make(chan struct{})}
				followers = append(followers, f)
				wait := time.Duration(r.Int64N(int64(8 * time.Second)))
				slow := time.Duration(r.Int64N(int64(50 * time.Millisecond)))
				go func() {
					defer close(f.done)
					time.Sleep(wait) // of the bubble
					f.run, f.err = w.Follow(w.Context(), me, run.ID, f.after, func(lines []core.LogLine) error {
						time.Sleep(slow) // of the bubble
						f.got = append(f.got, lines...)
						return nil
					})
				}()
			}
			<-c.done
			for i, f := range followers {
				<-f.done
				if f.err != nil || f.run.State != core.StateSucceeded {
					t.Errorf("seed %d: follower %d got the run %s, %v", seed, i, f.run.State, f.err)
				}
				if !slices.Equal(texts(f.got), want[f.after:]) {
					t.Errorf("seed %d: follower %d after %d got %d lines", seed, i, f.after, len(f.got))
				}
				for n, l := range f.got {
					if l.Sequence != f.after+int64(n)+1 || l.Run != run.ID || l.Stream != core.StreamStderr {
						t.Fatalf("seed %d: line %d is %+v", seed, n, l)
					}
				}
			}
			w.flushed()
			if got := w.log(run.ID); !slices.Equal(got, want) || w.store.logged != len(want) {
				t.Errorf("seed %d: the store was given %d lines, and has %d", seed, w.store.logged, len(got))
			}
			if held, runs := w.Held(); held != 0 || runs != 0 {
				t.Errorf("seed %d: %d bytes of %d runs are kept in memory", seed, held, runs)
			}
		})
	}
}

func TestFollowEnds(t *testing.T) {
	t.Parallel()
	inWorld(t, map[string]program{"job": {main: func(ctx context.Context, in *instance) int {
		in.print(2, "hello\n")
		return hang(ctx, in)
	}}}, func(w *world) {
		_, run := w.going("job", "")
		stop := errors.New("enough")
		if _, err := w.Follow(w.Context(), me, run.ID, 0, func([]core.LogLine) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithCancel(w.Context())
		done := make(chan error)
		go func() {
			_, err := w.Follow(ctx, me, run.ID, 0, func([]core.LogLine) error { return nil })
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if _, err := w.Follow(w.Context(), me, 99, 0, nil); !core.IsKind(err, core.KindNotFound) {
			t.Errorf("an unknown run: %v", err)
		}
		if _, err := w.Logs(w.Context(), me, 99, 0, 10); !core.IsKind(err, core.KindNotFound) {
			t.Errorf("an unknown run: %v", err)
		}
		lines, err := w.Logs(w.Context(), me, run.ID, 0, 10)
		if err != nil || len(lines) != 1 {
			t.Errorf("got %v, %v", lines, err)
		}
	})
}
