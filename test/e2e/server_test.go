package e2e_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is dayfly server as a process.
type server struct {
	url  string
	data string
	tmp  string // its TMPDIR, which it must leave empty
	cmd  *exec.Cmd
	log  *text
	done chan error // what Wait gave; sent once
	env  []string   // for commands that call it
}

// text collects what a process prints.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// cleanEnv is the environment without what speaks to dayfly.
func cleanEnv(more ...string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "DAYFLY_") {
			env = append(env, kv)
		}
	}
	return append(env, more...)
}

// options say how a server is started.
type options struct {
	data   string   // a fresh directory unless set
	args   []string // after "server --data DIR"
	env    []string
	listen string   // 127.0.0.1:0 unless set
	prefix []string // a command that runs the command
}

// launch starts a server and waits until it is ready or has ended; then the
// server is nil and the error has what it printed.
func launch(dir string, o options) (*server, error) {
	if o.data == "" {
		o.data = filepath.Join(dir, "data")
	}
	if o.listen == "" {
		o.listen = "127.0.0.1:0"
	}
	s := &server{data: o.data, tmp: filepath.Join(dir, "tmp"), log: &text{}, done: make(chan error, 1)}
	if err := os.MkdirAll(s.tmp, 0o777); err != nil {
		return nil, err
	}
	args := append(append([]string{}, o.prefix...), built("dayfly"), "server", "--data", o.data, "--listen", o.listen)
	args = append(args, o.args...)
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Env = cleanEnv(append([]string{"TMPDIR=" + s.tmp}, o.env...)...)
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "Dayfly is ready: ")
	if err != nil || !ok {
		_, _ = io.Copy(io.Discard, out)
		return nil, &startError{exit: s.cmd.Wait(), log: line + s.log.String()}
	}
	s.url = url
	s.env = []string{"DAYFLY_URL=" + url}
	go func() { s.done <- s.cmd.Wait() }()
	return s, nil
}

// startError is the error of a server that did not start.
type startError struct {
	exit error
	log  string
}

func (e *startError) Error() string { return fmt.Sprintf("the server ended (%v): %s", e.exit, e.log) }

// code gives the exit code.
func (e *startError) code() int {
	if exit, ok := errors.AsType[*exec.ExitError](e.exit); ok {
		return exit.ExitCode()
	}
	return 0
}

// start starts a server that lasts as long as the test.
func start(t *testing.T, o options) *server {
	t.Helper()
	s, err := launch(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("stop the server: %v", err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.log)
		}
	})
	return s
}

// refused starts a server that must not start, and gives what it says.
func refused(t *testing.T, o options) *startError {
	t.Helper()
	s, err := launch(t.TempDir(), o)
	if err == nil {
		_ = s.stop()
		t.Fatal("the server started, which it should not have")
	}
	said, ok := errors.AsType[*startError](err)
	if !ok {
		t.Fatal(err)
	}
	return said
}

// stopLimit bounds the stop of a server: calls under way (10 s) and the grace
// of instances (5 s), with room for a busy machine.
const stopLimit = 40 * time.Second

// stop stops the server as a person would, and tells when it does not end
// well. A server that has ended already is left alone.
func (s *server) stop() error {
	if s == nil || s.cmd == nil {
		return nil
	}
	defer func() { s.cmd = nil }()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case err := <-s.done:
		if err != nil {
			return fmt.Errorf("it ended with %w; its log:\n%s", err, s.log)
		}
	case <-timer.C:
		_ = s.cmd.Process.Kill()
		<-s.done
		return fmt.Errorf("it did not end within %s; its log:\n%s", stopLimit, s.log)
	}
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, "level=ERROR") && !strings.Contains(line, "is full") || strings.Contains(line, "panic") {
			return fmt.Errorf("it met an error: %s", line)
		}
	}
	left, err := os.ReadDir(s.tmp)
	if err == nil && len(left) > 0 {
		return fmt.Errorf("it left %v in TMPDIR", left)
	}
	return nil
}

// kill ends the server as a power cut would.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
	s.cmd = nil
}

// sharing is a server that tests share: each has an app of its own in it.
type sharing struct {
	once sync.Once
	dir  string
	s    *server
	err  error
}

var shared sharing

// get gives the server, with the image misbehave:1 in it.
func (h *sharing) get(t *testing.T) *server {
	t.Helper()
	h.once.Do(func() {
		if h.dir, h.err = os.MkdirTemp(os.Getenv(worldVariable), "shared-"); h.err == nil {
			h.s, h.err = launch(h.dir, options{})
		}
		if h.err == nil {
			loadMisbehave(t, h.s)
		}
	})
	if h.err != nil {
		t.Fatal(h.err)
	}
	if h.s == nil {
		t.Fatal("the server that the tests share did not start; another test tells why")
	}
	return h.s
}

func (h *sharing) stop() error { return h.s.stop() }

// result is what a command came to.
type result struct {
	code        int
	out, err    string
	commandLine string
}

func (r result) String() string {
	return fmt.Sprintf("$ %s\nexit code %d\nstdout: %s\nstderr: %s", r.commandLine, r.code, r.out, r.err)
}

// command makes a command of dayfly that calls the server.
func (s *server) command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), built("dayfly"), args...)
	cmd.Env = cleanEnv(append(append([]string{}, s.env...), env...)...)
	return cmd
}

// run runs a command of dayfly to its end.
func run(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	exit, exited := errors.AsType[*exec.ExitError](err)
	if err != nil && !exited {
		t.Fatalf("run %v: %v", cmd.Args, err)
	}
	r := result{out: out.String(), err: errs.String(), commandLine: strings.Join(cmd.Args[1:], " ")}
	if exited {
		r.code = exit.ExitCode()
	}
	return r
}

// cli runs a command that calls the server, with nothing on its standard
// input.
func (s *server) cli(t *testing.T, args ...string) result {
	t.Helper()
	return run(t, s.command(t, nil, args...))
}

// does runs a command that must do well, and gives its standard output.
func (s *server) does(t *testing.T, args ...string) string {
	t.Helper()
	r := s.cli(t, args...)
	if r.code != 0 {
		t.Fatalf("this should have worked:\n%s", r)
	}
	return r.out
}

// fails runs a command that must end with the code and say the words.
func (s *server) fails(t *testing.T, code int, words []string, args ...string) result {
	t.Helper()
	r := s.cli(t, args...)
	if r.code != code {
		t.Errorf("the exit code should be %d:\n%s", code, r)
	}
	wantWords(t, r.err, words...)
	return r
}

// wantWords fails the test when one of the words is not in the text.
func wantWords(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("this should say %q:\n%s", w, text)
		}
	}
}
