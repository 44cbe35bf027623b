package drivertest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

var streaming = map[string]func(*testing.T, *suite){
	"stdin reaches the process to its end":            passesStdin,
	"a process that reads no stdin ends all the same": leavesStdin,
	"stdout and stderr are apart and complete":        keepsStreamsApart,
	"a writer that fails does not stop the process":   outlivesWriter,
	"streams that nobody wants are dropped":           dropsStreams,
	"Drain gives all that was printed before":         drains,
	"Drain returns while the process prints for ever": drainsFlood,
}

func passesStdin(t *testing.T, s *suite) {
	large := bytes.Repeat([]byte("mayfly\x00\xff\n"), 1<<20/9)
	for name, stdin := range map[string]io.Reader{
		"1 MiB": bytes.NewReader(large), "empty": strings.NewReader(""), "none": nil, "in small pieces": slowly(large[:3000]),
	} {
		want := ""
		switch name {
		case "1 MiB":
			want = string(large)
		case "in small pieces":
			want = string(large[:3000])
		}
		p := Start(t, s.Driver, Spec(s.base, "copy"), stdin)
		p.Code(0)
		if p.Out.String() != want {
			t.Errorf("%s: of %d bytes it copied %d, or others", name, len(want), len(p.Out.String()))
		}
		if got := p.Err.String(); got != fmt.Sprintf("%d bytes\n", len(want)) {
			t.Errorf("%s: it says %q", name, got)
		}
	}
}

// slowly gives data a few bytes at a time.
func slowly(data []byte) io.Reader {
	r, w := io.Pipe()
	go func() {
		for len(data) > 0 {
			n := min(7, len(data))
			if _, err := w.Write(data[:n]); err != nil {
				return
			}
			data = data[n:]
		}
		_ = w.Close()
	}()
	return r
}

func leavesStdin(t *testing.T, s *suite) {
	Start(t, s.Driver, Spec(s.base, "exit", "4"), bytes.NewReader(make([]byte, 1<<20))).Code(4)
}

func keepsStreamsApart(t *testing.T, s *suite) {
	const size = 64 << 20
	out, err := newSum('o'), newSum('e')
	spec := Spec(s.base, "print", fmt.Sprint(size))
	if _, err := s.Driver.Start(Context(t), spec, core.Stdio{Stdout: out, Stderr: err}); err != nil {
		t.Fatal(err)
	}
	if exit, err := s.Driver.Wait(Context(t), spec.ID); err != nil || exit.Code != 0 {
		t.Fatalf("it ended with %+v and %v", exit, err)
	}
	for name, got := range map[string]*sum{"stdout": out, "stderr": err} {
		if got.n != size || got.strange {
			t.Errorf("%s has %d bytes (strange ones: %t), want %d", name, got.n, got.strange, size)
		}
	}
}

// sum counts bytes that are all the same.
type sum struct {
	want    []byte
	n       int
	strange bool
}

func newSum(b byte) *sum { return &sum{want: bytes.Repeat([]byte{b}, 1<<20)} }

func (s *sum) Write(p []byte) (int, error) {
	s.n += len(p)
	s.strange = s.strange || !bytes.Equal(p, s.want[:len(p)])
	return len(p), nil
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("this writer is broken") }

func outlivesWriter(t *testing.T, s *suite) {
	spec := Spec(s.base, "print", "1000000")
	if _, err := s.Driver.Start(Context(t), spec, core.Stdio{Stdout: broken{}, Stderr: broken{}}); err != nil {
		t.Fatal(err)
	}
	if exit, err := s.Driver.Wait(Context(t), spec.ID); err != nil || exit.Code != 0 {
		t.Fatalf("it ended with %+v and %v", exit, err)
	}
}

func dropsStreams(t *testing.T, s *suite) {
	spec := Spec(s.base, "print", "1000000")
	if _, err := s.Driver.Start(Context(t), spec, core.Stdio{}); err != nil {
		t.Fatal(err)
	}
	if exit, err := s.Driver.Wait(Context(t), spec.ID); err != nil || exit.Code != 0 {
		t.Fatalf("it ended with %+v and %v", exit, err)
	}
	if err := s.Driver.Drain(spec.ID); err != nil && !errors.Is(err, core.ErrGone) {
		t.Errorf("Drain of an ended one gives %v", err)
	}
}

// Get asks the web server of an instance for a path, and gives its answer.
func Get(t testing.TB, c net.Conn, path string) string {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("read the answer: %v", err)
		}
		if line == "\r\n" {
			break
		}
	}
	body := make([]byte, len("hello"))
	if _, err := io.ReadFull(in, body); err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	return string(body)
}

func drains(t *testing.T, s *suite) {
	p := s.start(t, "serve", "127.0.0.1:8080")
	p.Out.Await(t, "listening")
	c := s.dial(t, p.ID, 8080)
	for i := range 200 {
		text := fmt.Sprintf("line-%x", sha256.Sum256([]byte{byte(i)}))
		if got := Get(t, c, "/print/"+text); got != "hello" {
			t.Fatalf("it answers %q", got)
		}
		if err := s.Driver.Drain(p.ID); err != nil {
			t.Fatal(err)
		}
		for name, o := range map[string]*Output{"stdout": &p.Out, "stderr": &p.Err} {
			if !strings.HasSuffix(o.String(), text+"\n") {
				t.Fatalf("after Drain %s lacks what was printed before the answer", name)
			}
		}
	}
}

// counting keeps only how much was written to it.
type counting struct {
	Output
	many chan struct{} // closed after the first megabyte
	n    int
}

func (c *counting) Write(p []byte) (int, error) {
	if c.n < 1<<20 && c.n+len(p) >= 1<<20 {
		close(c.many)
	}
	c.n += len(p)
	return len(p), nil
}

func drainsFlood(t *testing.T, s *suite) {
	spec := Spec(s.base, "flood")
	out := &counting{many: make(chan struct{})}
	if _, err := s.Driver.Start(Context(t), spec, core.Stdio{Stderr: out}); err != nil {
		t.Fatal(err)
	}
	<-out.many
	drained := make(chan error, 1)
	go func() {
		var err error
		for range 20 {
			err = errors.Join(err, s.Driver.Drain(spec.ID))
		}
		drained <- err
	}()
	select {
	case err := <-drained:
		if err != nil {
			t.Error(err)
		}
	case <-Context(t).Done():
		t.Error("Drain does not return")
	}
	if err := s.Driver.Stop(Context(t), spec.ID, 0); err != nil {
		t.Error(err)
	}
}
