package cli_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/dayfly-io/dayfly/internal/cli"
	"github.com/dayfly-io/dayfly/internal/image/pack"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dayfly": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		context.AfterFunc(ctx, stop)
		os.Exit(cli.Main(ctx, cli.Program{
			Args: os.Args[1:], Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Version: "test",
		}))
	}})
}

// TestScripts runs testdata/script. Beside the commands of testscript there
// is "exits CODE COMMAND...", which holds a command to its exit code, "token
// TOKEN", which makes the server ask for one, "run FUNCTION STATE", which
// makes a run, and "image FILE NAME", which writes an image.
func TestScripts(t *testing.T) {
	t.Parallel()
	type server struct{}
	testscript.Run(t, testscript.Params{
		Dir:             "testdata/script",
		UpdateScripts:   *update,
		ContinueOnError: true,
		Setup: func(env *testscript.Env) error {
			f := newFake(env.T().(testing.TB))
			env.Values[server{}] = f
			env.Setenv("DAYFLY_URL", f.URL)
			env.Setenv("TZ", "UTC")
			program, err := exec.LookPath("dayfly")
			if err != nil {
				return err
			}
			env.Setenv("PROGRAM", program)
			examples, err := filepath.Abs("../../examples")
			if err != nil {
				return err
			}
			env.Setenv("EXAMPLES", examples)
			for _, name := range []string{"GOCACHE", "GOPATH", "GOMODCACHE"} {
				out, err := exec.Command("go", "env", name).Output()
				if err != nil {
					return err
				}
				env.Setenv(name, strings.TrimSpace(string(out)))
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				got := 0
				if err := ts.Exec(args[1], args[2:]...); err != nil {
					var exit *exec.ExitError
					if !errors.As(err, &exit) {
						ts.Fatalf("%v", err)
					}
					got = exit.ExitCode()
				}
				if got != want {
					ts.Fatalf("the exit code is %d and should be %d", got, want)
				}
			},
			"image": func(ts *testscript.TestScript, _ bool, args []string) {
				out, err := os.Create(ts.MkAbs(args[0]))
				ts.Check(err)
				_, err = pack.Write(out, pack.Image{Name: args[1], Files: []pack.File{{Path: "tmp", Mode: fs.ModeDir | 0o755}}})
				ts.Check(errors.Join(err, out.Close()))
			},
			"token": func(ts *testscript.TestScript, _ bool, args []string) {
				f := ts.Value(server{}).(*fake)
				f.mu.Lock()
				defer f.mu.Unlock()
				f.token = args[0]
			},
			"run": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Value(server{}).(*fake).addRun(args[0], args[1])
			},
		},
	})
}

func TestInterruptCancelsTheRequest(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	ctx, interrupt := context.WithCancel(t.Context())
	var out, chat bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- cli.Main(ctx, cli.Program{
			Args: []string{"invoke", "never"}, Env: []string{"DAYFLY_URL=" + f.URL}, Stdout: &out, Stderr: &chat,
		})
	}()
	<-f.called
	interrupt()
	if got := <-code; got != 130 {
		t.Errorf("the exit code is %d", got)
	}
	<-f.gone
	if out.Len() > 0 || chat.Len() > 0 {
		t.Errorf("it said %q and %q", out.String(), chat.String())
	}
}

type codeError struct{ error }

func (codeError) ExitCode() int { return 5 }

func TestCommandsOfOthers(t *testing.T) {
	t.Parallel()
	cmd := &cobra.Command{Use: "server", Short: "Start a server", RunE: func(cmd *cobra.Command, _ []string) error {
		cmd.Println("started")
		return codeError{errors.New("the directory is held by another server")}
	}}
	var out, chat bytes.Buffer
	code := cli.Main(t.Context(), cli.Program{Args: []string{"server"}, Stdout: &out, Stderr: &chat}, cmd)
	if want := "dayfly: the directory is held by another server\n"; code != 5 || !strings.HasSuffix(chat.String(), want) {
		t.Errorf("the exit code is %d, and it said %q", code, chat.String())
	}
}

// TestAServerThatDoesNotStopWellSaysSo: for a command that ends by itself
// when it is interrupted, the interrupt is no excuse.
func TestAServerThatDoesNotStopWellSaysSo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		code int
		chat string
	}{
		{nil, 0, ""},
		{errors.New("the store did not close"), 1, "dayfly: the store did not close\n"},
		{context.Canceled, 130, ""},
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		cmd := &cobra.Command{Use: "server", RunE: func(*cobra.Command, []string) error {
			interrupt()
			return c.err
		}}
		var chat bytes.Buffer
		code := cli.Main(ctx, cli.Program{Args: []string{"server"}, Stdout: &chat, Stderr: &chat}, cmd)
		if code != c.code || chat.String() != c.chat {
			t.Errorf("with %v the exit code is %d, and it said %q", c.err, code, chat.String())
		}
	}
}

// TestHelp holds the help texts to testdata/help, a file for each command.
func TestHelp(t *testing.T) {
	t.Parallel()
	commands := []string{
		"", "app", "app list", "function", "function create", "function list", "function show", "function delete",
		"image", "image load", "image list", "run", "run list", "run show", "run logs", "run cancel",
		"instance", "instance list", "deploy", "init", "invoke", "version",
	}
	for _, name := range commands {
		var out, chat bytes.Buffer
		code := cli.Main(t.Context(), cli.Program{Args: append(strings.Fields(name), "--help"), Stdout: &out, Stderr: &chat})
		if code != 0 || chat.Len() > 0 {
			t.Errorf("dayfly %s --help exits with %d and says %q", name, code, chat.String())
		}
		for line := range strings.Lines(out.String()) {
			if len(line) > 121 {
				t.Errorf("dayfly %s --help has a line of %d characters: %s", name, len(line), line)
			}
		}
		file := filepath.Join("testdata/help", strings.ReplaceAll(strings.TrimSpace("dayfly "+name), " ", "_")+".txt")
		if *update {
			if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), want) {
			t.Errorf("dayfly %s --help is not %s: run go test ./internal/cli -update\n%s", name, file, out.String())
		}
	}
	files, err := filepath.Glob("testdata/help/*.txt")
	if err != nil || len(files) != len(commands) {
		t.Errorf("there are %d help texts for %d commands", len(files), len(commands))
	}
}
