package invoke

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// runLog gathers what a run prints: the last lines that are not on disk yet,
// and who waits for more.
type runLog struct {
	mu       sync.Mutex
	limit    core.Bytes
	bytes    core.Bytes // printed, also what was cut
	sequence int64      // of the last line
	pending  []core.LogLine
	written  int64 // sequence up to which lines have been taken to be written
	cut      bool
	ended    bool
	changed  chan struct{} // closed at the next change; nil while nobody waits
	percent  int           // progress in hundredths, -1 for none
	text     string
}

func (g *runLog) size() core.Bytes {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bytes
}

func (g *runLog) progress() (percent int, text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.percent, g.text
}

// add adds one line, or the mark that the log was cut.
func (g *runLog) add(line core.LogLine) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bytes += core.Bytes(len(line.Text) + 1)
	if line.Stream == core.StreamStderr {
		g.readProgress(line.Text)
	}
	if g.cut {
		return
	}
	if g.bytes > g.limit {
		g.cut = true
		line.Stream, line.Text = core.StreamSystem, fmt.Sprintf("[log cut: it is longer than %s, which is limits.log]", g.limit)
	}
	g.sequence++
	line.Sequence = g.sequence
	g.pending = append(g.pending, line)
	g.tell()
}

// readProgress reads "::progress 42 text" (contracts: "job").
func (g *runLog) readProgress(line string) {
	rest, ok := strings.CutPrefix(line, "::progress ")
	if !ok {
		return
	}
	number, text, _ := strings.Cut(rest, " ")
	if n, err := strconv.Atoi(number); err == nil && n >= 0 && n <= 100 {
		g.percent, g.text = n, text
	}
}

// tell wakes those who wait for a change. mu is held.
func (g *runLog) tell() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// end says that no line will come.
func (g *runLog) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	g.tell()
}

// after gives the lines in memory whose sequence is over n; the channel is
// closed when there is more, and nil when no more will come. first is the
// sequence of the first line in memory: those before it are on disk.
func (g *runLog) after(n int64) (lines []core.LogLine, first int64, more <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	first = g.sequence - int64(len(g.pending)) + 1
	if skip := n - first + 1; skip < int64(len(g.pending)) {
		lines = append(lines, g.pending[max(skip, 0):]...)
	}
	if g.ended {
		return lines, first, nil
	}
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return lines, first, g.changed
}

// take gives the lines that have not been taken yet, to be written. They stay
// readable until wrote.
func (g *runLog) take() []core.LogLine {
	g.mu.Lock()
	defer g.mu.Unlock()
	first := g.sequence - int64(len(g.pending)) + 1
	fresh := g.pending[max(g.written+1-first, 0):]
	g.written = g.sequence
	return append([]core.LogLine(nil), fresh...)
}

// wrote drops lines up to a sequence, which are on disk.
func (g *runLog) wrote(sequence int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	first := g.sequence - int64(len(g.pending)) + 1
	if n := sequence - first + 1; n > 0 {
		g.pending = append([]core.LogLine(nil), g.pending[n:]...)
	}
}

// unwritten says that what was taken after a sequence could not be written.
func (g *runLog) unwritten(sequence int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.written = min(g.written, sequence)
}

// tailLines is how many of the last lines an error shows, and tailBytes how
// much of them.
const (
	tailLines = 10
	tailBytes = 2048
)

// tail gives the last lines in memory as text.
func (g *runLog) tail() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return tailOf(g.pending)
}

func tailOf(lines []core.LogLine) string {
	var b strings.Builder
	for _, l := range lines[max(0, len(lines)-tailLines):] {
		b.WriteString(l.Text)
		b.WriteByte('\n')
	}
	s := b.String()
	return strings.TrimRight(s[max(0, len(s)-tailBytes):], "\n")
}

// maxLine is how long a line of a log may be; a longer one is broken.
const maxLine = 16 << 10

// source turns what an instance prints into lines, and gives them to the run
// that is on it.
type source struct {
	id core.InstanceID

	mu      sync.Mutex
	run     *live
	runID   core.RunID
	partial [2][]byte // of stdout and stderr: what has no line end yet
	boot    []core.LogLine
}

// begin makes the run the one whose lines come now.
func (s *source) begin(l *live, id core.RunID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run, s.runID = l, id
}

// end says that the run has ended; what it left without a line end is a line.
func (s *source) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush(time.Now())
	s.run, s.runID = nil, 0
}

// flush makes lines of what has no line end. mu is held.
func (s *source) flush(now time.Time) {
	for i, p := range s.partial {
		if len(p) > 0 {
			s.line(core.Stream(i+1), now, p)
			s.partial[i] = p[:0]
		}
	}
}

// line gives one line to the run. mu is held.
func (s *source) line(stream core.Stream, now time.Time, text []byte) {
	line := core.LogLine{
		Instance: s.id, Run: s.runID, Stream: stream, Time: now,
		Text: strings.ToValidUTF8(strings.TrimSuffix(string(text), "\r"), "\uFFFD"),
	}
	if s.run != nil {
		s.run.log.add(line)
		return
	}
	// Between runs there is nobody to keep it for: the last lines serve to
	// explain why an instance did not start.
	if len(s.boot) >= 2*tailLines {
		s.boot = append(s.boot[:0], s.boot[tailLines:]...)
	}
	s.boot = append(s.boot, line)
}

// tail gives the last lines that were printed before the first run.
func (s *source) tail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush(time.Now())
	return tailOf(s.boot)
}

// stream is the writer of one of the streams of an instance.
type stream struct {
	s     *source
	which core.Stream
}

// Write takes a piece of output.
func (w stream) Write(p []byte) (int, error) {
	now := time.Now()
	s, rest := w.s, p
	s.mu.Lock()
	defer s.mu.Unlock()
	partial := &s.partial[w.which-1]
	for len(rest) > 0 {
		i := bytes.IndexByte(rest, '\n')
		switch {
		case i < 0 && len(*partial)+len(rest) < maxLine:
			*partial = append(*partial, rest...)
			return len(p), nil
		case i < 0 || len(*partial)+i > maxLine:
			n := min(maxLine-len(*partial), len(rest))
			*partial = append(*partial, rest[:n]...)
			rest = rest[n:]
			s.line(w.which, now, *partial)
			*partial = (*partial)[:0]
		case len(*partial) == 0:
			s.line(w.which, now, rest[:i])
			rest = rest[i+1:]
		default:
			*partial = append(*partial, rest[:i]...)
			s.line(w.which, now, *partial)
			*partial = (*partial)[:0]
			rest = rest[i+1:]
		}
	}
	return len(p), nil
}
