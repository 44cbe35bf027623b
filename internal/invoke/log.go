package invoke

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

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
	written  int64          // sequence up to which lines have been taken to be written
	last     []core.LogLine // the last ones, written or not
	held     *atomic.Int64  // bytes of all runs' pending lines
	cut      bool
	ended    bool
	changed  chan struct{} // closed at the next change; nil while nobody waits
	over     chan struct{} // closed at the end; nil while nobody waits
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
	g.held.Add(cost(line))
	g.last = keepLast(g.last, line)
	g.tell()
}

// lineCost is what a line takes in memory besides its text, in bytes.
const lineCost = 96

func cost(line core.LogLine) int64 { return int64(len(line.Text)) + lineCost }

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
	if g.over != nil {
		close(g.over)
	}
}

// done gives a channel that is closed when the run has ended.
func (g *runLog) done() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over == nil {
		g.over = make(chan struct{})
		if g.ended {
			close(g.over)
		}
	}
	return g.over
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

// fresh reports whether there are lines that have not been taken.
func (g *runLog) fresh() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sequence > g.written
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
		for _, line := range g.pending[:n] {
			g.held.Add(-cost(line))
		}
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

// tail gives the last lines as text.
func (g *runLog) tail() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return tailOf(g.last)
}

// keepLast adds a line to the last ones, of which it keeps at least tailLines.
func keepLast(last []core.LogLine, line core.LogLine) []core.LogLine {
	if len(last) >= 2*tailLines {
		last = append(last[:0], last[tailLines:]...)
	}
	if n := len(line.Text); n > tailBytes {
		line.Text = strings.Clone(line.Text[n-tailBytes:])
	}
	return append(last, line)
}

func tailOf(lines []core.LogLine) string {
	var b strings.Builder
	for _, l := range lines[max(0, len(lines)-tailLines):] {
		b.WriteString(l.Text)
		b.WriteByte('\n')
	}
	s := b.String()
	// The cut may go through a character.
	return strings.ToValidUTF8(strings.TrimRight(s[max(0, len(s)-tailBytes):], "\n"), "")
}

// maxLine is how long a line of a log may be; a longer one is broken.
const maxLine = 16 << 10

// source turns what an instance prints into lines, and gives them to the run
// that is on it.
type source struct {
	id core.InstanceID

	mu      sync.Mutex
	runs    []running // that are on the instance now
	partial [2][]byte // of stdout and stderr: what has no line end yet
	boot    []core.LogLine
	meter   meter
	frames  [2]frame // of stdout and stderr
	framed  bool     // the process marks where the log of a run begins
}

// frame is what the marks in a stream say.
type frame struct {
	run   core.RunID // of the last mark
	blank bool       // an empty line has come, which may belong to a mark
	at    time.Time  // it came then
	fresh bool       // the mark has just come; the kit for Python ends it with an empty line
}

// running is a run on an instance.
type running struct {
	live   *live
	id     core.RunID
	name   string // the id as text, once somebody has asked
	shared bool   // it has not been alone all the time
}

func (r *running) named() string {
	if r.name == "" {
		r.name = r.id.String()
	}
	return r.name
}

// begin makes the run one whose lines come now. What was printed before is not
// the run's, also when no line end has come.
func (s *source) begin(l *live, id core.RunID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush(time.Now())
	l.base, l.based = s.meter.last, s.meter.exact
	s.runs = append(s.runs, running{live: l, id: id, shared: len(s.runs) > 0})
	if len(s.runs) == 2 {
		s.runs[0].shared = true
	}
}

// end says that the run has ended; what is left without a line end is a line.
// It reports whether the run has been alone on the instance.
func (s *source) end(id core.RunID) (alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush(time.Now())
	i := slices.IndexFunc(s.runs, func(r running) bool { return r.id == id })
	if i < 0 {
		return false
	}
	alone = !s.runs[i].shared
	s.runs = slices.Delete(s.runs, i, i+1)
	return alone
}

// flush makes lines of what has no line end. mu is held.
func (s *source) flush(now time.Time) {
	for i, p := range s.partial {
		if len(p) > 0 {
			s.line(core.Stream(i+1), now, p)
			s.partial[i] = p[:0]
		}
		s.unblank(core.Stream(i + 1))
	}
}

// unblank makes a line of the empty one that belongs to no mark. mu is held.
func (s *source) unblank(stream core.Stream) {
	if f := &s.frames[stream-1]; f.blank {
		f.blank = false
		s.keep(stream, f.at, nil)
	}
}

// line takes a line, unless it is of the mark of a run: the word with the run's
// id, between empty lines. mu is held.
func (s *source) line(stream core.Stream, now time.Time, text []byte) {
	if s.framed {
		f := &s.frames[stream-1]
		if id, ok := s.mark(text); ok {
			f.run, f.blank, f.fresh = id, false, true
			return
		}
		s.unblank(stream)
		after := f.fresh
		f.fresh = false
		if len(text) == 0 {
			f.blank, f.at = !after, now
			return
		}
	}
	s.keep(stream, now, text)
}

// mark gives the run on the instance whose mark a line is. mu is held.
func (s *source) mark(text []byte) (core.RunID, bool) {
	rest, ok := bytes.CutPrefix(text, logFrame)
	if !ok {
		return 0, false
	}
	for i := range s.runs {
		if string(rest) == s.runs[i].named() {
			return s.runs[i].id, true
		}
	}
	return 0, false
}

var logFrame = []byte(core.LogFrame + "=")

// keep gives one line to its run: the one that is alone on the instance, else
// the one whose id it carries. A line that could be anybody's is given to all
// that are there, and says so. mu is held.
func (s *source) keep(stream core.Stream, now time.Time, text []byte) {
	line := core.LogLine{
		Instance: s.id, Stream: stream, Time: now,
		Text: strings.ToValidUTF8(string(text), "\uFFFD"),
	}
	switch len(s.runs) {
	case 0:
		// Between runs there is nobody to keep it for: the last lines serve
		// to explain why an instance did not start.
		s.boot = keepLast(s.boot, line)
		return
	case 1:
		line.Run = s.runs[0].id
		if of := s.frames[stream-1].run; of != 0 && of != line.Run {
			// It comes late, and its own run's log is closed.
			line.Text = fmt.Sprintf("[of %s, which has ended] %s", of, line.Text)
		}
		s.runs[0].live.log.add(line)
		return
	}
	if r := s.owner(line.Text); r != nil {
		line.Run = r.id
		r.live.log.add(line)
		return
	}
	line.Text = fmt.Sprintf("[shared by %d] %s", len(s.runs), line.Text)
	for _, r := range s.runs {
		line.Run = r.id
		r.live.log.add(line)
	}
}

// owner finds the run whose id a line carries in the JSON field run_id, nil
// for none that is on the instance (contracts: "Logs"). mu is held.
func (s *source) owner(text string) *running {
	_, rest, ok := strings.Cut(text, `"run_id"`)
	if !ok {
		return nil
	}
	rest, ok = strings.CutPrefix(strings.TrimLeft(rest, " \t:"), `"`)
	if !ok {
		return nil
	}
	for i := range s.runs {
		r := &s.runs[i]
		if strings.HasPrefix(rest, r.named()+`"`) {
			return r
		}
	}
	return nil
}

// rest lets go of buffers that an instance does not need while it is frozen.
// The lines before its first run explained why it did not start, and it did.
func (s *source) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boot = nil
	for i, p := range s.partial {
		if len(p) == 0 {
			s.partial[i] = nil
		}
	}
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
		text, whole := rest, false
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			text, whole = rest[:i], true
		}
		switch {
		case len(*partial)+len(text) > maxLine:
			n := maxLine - len(*partial)
			*partial = append(*partial, text[:n]...)
			rest = rest[n:]
			n = wholeRunes(*partial)
			s.line(w.which, now, (*partial)[:n])
			*partial = append((*partial)[:0], (*partial)[n:]...)
			continue
		case !whole:
			*partial = append(*partial, text...)
		case len(*partial) == 0: // the usual case, without a copy
			s.line(w.which, now, bytes.TrimSuffix(text, carriageReturn))
		default:
			*partial = append(*partial, text...)
			s.line(w.which, now, bytes.TrimSuffix(*partial, carriageReturn))
			*partial = (*partial)[:0]
		}
		rest = rest[len(text):]
		if whole {
			rest = rest[1:]
		}
	}
	return len(p), nil
}

var carriageReturn = []byte{'\r'}

// wholeRunes gives the length of p without the begin of a character at its
// end whose rest has not come.
func wholeRunes(p []byte) int {
	for i := len(p) - 1; i >= 0 && len(p)-i < utf8.UTFMax; i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				return i
			}
			break
		}
	}
	return len(p)
}
