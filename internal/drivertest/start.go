package drivertest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
)

var starting = map[string]func(*testing.T, *suite){
	"Start gives the process its arguments and environment": startsWithArguments,
	"Start gives the image's directory and user":            startsAsUser,
	"Start finds a command on the PATH":                     findsOnPath,
	"Start passes an argument of 127 KiB":                   passesLargeArgument,
	"Start takes a command in place of the image's":         overridesCommand,
	"Start says why it cannot":                              explainsFailure,
	"Start with an ended context leaves nothing":            startsNothingCancelled,
	"Start can be cancelled at any moment":                  startsCancelled,
	"Wait tells the exit code":                              tellsCode,
	"Wait tells the signal":                                 tellsSignal,
	"Wait answers many, and after the end":                  waitsForMany,
	"Wait gives up with its context":                        waitGivesUp,
	"many instances at once":                                startsMany,
	"an instance that is not there is gone":                 tellsGone,
}

func startsWithArguments(t *testing.T, s *suite) {
	config := core.ImageConfig{
		Entrypoint: []string{"/misbehave"}, Cmd: []string{"facts", "/of the image"}, Env: []string{"A=image", "B=image", "EMPTY="},
	}
	spec := Spec(s.image(t, config))
	spec.Command = nil
	spec.Env = []string{"B=function", "C=with = and\nnewline", "DAYFLY_RUN_ID=run_0"}
	f := s.facts(t, spec)
	if want := []string{"/misbehave", "facts", "/of the image"}; !slices.Equal(f.Args, want) {
		t.Errorf("the arguments are %q, want %q", f.Args, want)
	}
	for _, want := range []string{"A=image", "B=function", "C=with = and\nnewline", "EMPTY=", "DAYFLY_RUN_ID=run_0", "HOSTNAME=misbehave"} {
		if !slices.Contains(f.Env, want) {
			t.Errorf("the environment lacks %q: %q", want, f.Env)
		}
	}
	if slices.Contains(f.Env, "B=image") || !slices.ContainsFunc(f.Env, func(s string) bool { return strings.HasPrefix(s, "PATH=/") }) {
		t.Errorf("the environment has both values of B, or no PATH: %q", f.Env)
	}
	if f.Hostname != "misbehave" {
		t.Errorf("the host name is %q", f.Hostname)
	}
}

func startsAsUser(t *testing.T, s *suite) {
	for _, test := range []struct {
		user     string
		uid, gid int
		groups   []int
		home     string
	}{
		{"", 0, 0, []int{3000}, "/root"},
		{"app", 1000, 2000, []int{3000}, "/home/app"},
		{"1000", 1000, 2000, []int{3000}, "/home/app"},
		{"1234", 1234, 0, nil, "/"},
		{"app:staff", 1000, 2000, nil, "/home/app"},
		{"4321:8765", 4321, 8765, nil, "/"},
	} {
		t.Run("user "+test.user, func(t *testing.T) {
			t.Parallel()
			config := core.ImageConfig{Entrypoint: []string{"/misbehave", "facts"}, User: test.user, WorkingDir: "/work"}
			spec := Spec(s.image(t, config))
			spec.Command = nil
			f := s.facts(t, spec)
			if s.Can.OneUser { // whose groups are those of who runs the server
				s.missing(t, "user ids")
				test.uid, test.gid, test.groups, f.Groups = 0, 0, nil, nil
			}
			// Some systems count the group itself among the groups.
			groups := slices.DeleteFunc(f.Groups, func(g int) bool { return g == test.gid })
			if f.UID != test.uid || f.GID != test.gid || !slices.Equal(groups, test.groups) {
				t.Errorf("it runs as %d:%d %d, want %d:%d %d", f.UID, f.GID, groups, test.uid, test.gid, test.groups)
			}
			if f.Dir != "/work" || !slices.Contains(f.Env, "HOME="+test.home) {
				t.Errorf("it runs in %s with %q, want /work and HOME=%s", f.Dir, f.Env, test.home)
			}
		})
	}
}

func findsOnPath(t *testing.T, s *suite) {
	spec := Spec(s.base)
	spec.Command, spec.Env = []string{"behave", "exit", "3", "found"}, []string{"PATH=/nowhere:/etc/passwd:/bin"}
	p := Start(t, s.Driver, spec, nil)
	p.Code(3)
	if got := p.Err.String(); got != "found\n" {
		t.Errorf("it printed %q", got)
	}
}

func passesLargeArgument(t *testing.T, s *suite) {
	body := strings.Repeat("a body ", 127<<10/7)
	spec := Spec(s.image(t, core.ImageConfig{Entrypoint: []string{"/misbehave", "argument"}, Cmd: []string{"the", "image's"}}))
	spec.Command, spec.Argument = nil, &body
	p := Start(t, s.Driver, spec, nil)
	p.Code(0)
	if got, want := p.Out.String(), fmt.Sprintf("%d %x\n", len(body), sha256.Sum256([]byte(body))); got != want {
		t.Errorf("it got %q, want %q", got, want)
	}
}

func overridesCommand(t *testing.T, s *suite) {
	spec := Spec(s.image(t, core.ImageConfig{Entrypoint: []string{"/misbehave", "exit", "5"}, Cmd: []string{"image"}}))
	spec.Command = []string{"/misbehave", "exit", "6", "function"}
	p := Start(t, s.Driver, spec, nil)
	p.Code(6)
	if got := p.Err.String(); got != "function\n" {
		t.Errorf("it printed %q", got)
	}
}

func explainsFailure(t *testing.T, s *suite) {
	with := func(config core.ImageConfig, command ...string) core.InstanceSpec {
		spec := Spec(s.image(t, config))
		spec.Command = command
		return spec
	}
	behave := core.ImageConfig{Entrypoint: []string{"/misbehave", "exit", "0"}}
	as := func(change func(*core.ImageConfig)) core.InstanceSpec {
		c := behave
		change(&c)
		return with(c)
	}
	missing := with(behave)
	missing.Digest = "sha256:" + strings.Repeat("0", 64)
	large := with(behave)
	large.Env = []string{"LARGE=" + strings.Repeat("x", 200<<10)}
	zero, argument := with(behave), "with\x00zero"
	zero.Argument = &argument
	for name, test := range map[string]struct {
		spec core.InstanceSpec
		code core.Code
		says []string
	}{
		"no such image":          {missing, core.ReasonImageNotFound, []string{"no image"}},
		"no such program":        {with(behave, "/none"), core.ReasonStartFailed, []string{"/none", "test/misbehave"}},
		"no program on the PATH": {with(behave, "none"), core.ReasonStartFailed, []string{"none"}},
		"not executable":         {with(behave, "/plain"), core.ReasonStartFailed, []string{"/plain", "executed"}},
		"a directory":            {with(behave, "/work"), core.ReasonStartFailed, []string{"/work"}},
		"another architecture":   {with(behave, "/foreign"), core.ReasonImageUnsupported, []string{"/foreign", "architecture"}},
		"a script without #!":    {with(behave, "/script"), core.ReasonImageUnsupported, []string{"/script", "#!"}},
		"a script without shell": {with(behave, "/lost-script"), core.ReasonStartFailed, []string{"/lost-script", "interpreter"}},
		"no entrypoint":          {with(core.ImageConfig{}), core.ReasonImageUnsupported, []string{"entrypoint", "command"}},
		"no working directory":   {as(func(c *core.ImageConfig) { c.WorkingDir = "/none" }), core.ReasonStartFailed, []string{"/none", "working directory"}},
		"a locked directory": {
			as(func(c *core.ImageConfig) { c.WorkingDir, c.User = "/locked", "app" }), core.ReasonStartFailed,
			[]string{"/locked", "permission denied"},
		},
		"an unknown user":      {as(func(c *core.ImageConfig) { c.User = "nemo" }), core.ReasonImageUnsupported, []string{"nemo", "etc/passwd"}},
		"an unknown group":     {as(func(c *core.ImageConfig) { c.User = "app:nemo" }), core.ReasonImageUnsupported, []string{"nemo", "etc/group"}},
		"a too large variable": {large, core.ReasonStartFailed, []string{"128 KiB"}},
		"a zero byte":          {zero, core.ReasonStartFailed, []string{"zero byte"}},
	} {
		if s.Can.OneUser && name == "a locked directory" {
			continue // to the one user, who owns every file, it is open
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out Output
			_, err := s.Driver.Start(Context(t), test.spec, core.Stdio{Stdin: strings.NewReader("x"), Stdout: &out, Stderr: &out})
			told, ok := errors.AsType[*core.Error](err)
			if !ok {
				t.Fatalf("the error is %v, and not one for people", err)
			}
			if told.Code != test.code {
				t.Errorf("the code is %s, want %s", told.Code, test.code)
			}
			for _, text := range test.says {
				if !strings.Contains(told.Error(), text) {
					t.Errorf("the error is %q and says nothing of %q", told.Error(), text)
				}
			}
			if _, err := s.Driver.Wait(Context(t), test.spec.ID); !errors.Is(err, core.ErrGone) {
				t.Errorf("Wait for what did not start gives %v, want ErrGone", err)
			}
		})
	}
}

func startsNothingCancelled(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	spec := Spec(s.base, "sleep")
	if _, err := s.Driver.Start(ctx, spec, core.Stdio{}); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v, want that of the context", err)
	}
	if err := s.Driver.Stop(Context(t), spec.ID, 0); !errors.Is(err, core.ErrGone) {
		t.Errorf("Stop of what did not start gives %v, want ErrGone", err)
	}
}

func startsCancelled(t *testing.T, s *suite) {
	for i := range 30 {
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("somebody has lost patience")
		timer := time.AfterFunc(time.Duration(i)*150*time.Microsecond, func() { cancel(cause) })
		spec := Spec(s.base, "sleep", "slept")
		p := &Process{t: t, d: s.Driver, ID: spec.ID}
		_, err := s.Driver.Start(ctx, spec, core.Stdio{Stdout: &p.Out})
		timer.Stop()
		cancel(nil)
		switch {
		case err == nil:
			p.Out.Await(t, "slept") // it came in time, and is as good as any other
			p.Stop(0)
		case !errors.Is(err, cause):
			t.Fatalf("the error is %v, want the context's cause", err)
		default:
			if err := s.Driver.Stop(Context(t), spec.ID, 0); !errors.Is(err, core.ErrGone) {
				t.Fatalf("Stop of what did not start gives %v, want ErrGone", err)
			}
		}
	}
}

func tellsCode(t *testing.T, s *suite) {
	for _, code := range []int{0, 1, 75, 78, 128, 137, 255} {
		p := s.start(t, "exit", strconv.Itoa(code), "a last word")
		p.Code(code)
		if got := p.Err.String(); got != "a last word\n" {
			t.Errorf("it printed %q", got)
		}
		if at := p.Wait().At; time.Since(at) > Patience || time.Until(at) > 0 {
			t.Errorf("it ended at %s", at)
		}
	}
}

func tellsSignal(t *testing.T, s *suite) {
	for _, signal := range []int{1, 2, 9, 15} {
		exit := s.start(t, "kill", strconv.Itoa(signal)).Wait()
		if exit.Signal != signal || exit.Code != 128+signal || exit.OOM || exit.Lost {
			t.Errorf("signal %d is told as %+v", signal, exit)
		}
	}
}

func waitsForMany(t *testing.T, s *suite) {
	p := s.start(t, "copy")
	q := Start(t, s.Driver, Spec(s.base, "exit", "9"), nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if exit, err := s.Driver.Wait(Context(t), q.ID); err != nil || exit.Code != 9 {
				t.Errorf("one who waits is told %+v and %v", exit, err)
			}
		})
	}
	wg.Wait()
	q.Code(9)
	p.Code(0)
}

func waitGivesUp(t *testing.T, s *suite) {
	p := s.start(t, "sleep", "slept")
	p.Out.Await(t, "slept")
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := s.Driver.Wait(ctx, p.ID); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v, want that of the context", err)
	}
}

func startsMany(t *testing.T, s *suite) {
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			var out Output
			spec := Spec(s.base, "copy")
			spec.Network = s.networks()[i%len(s.networks())]
			text := fmt.Sprintf("of instance %d", i)
			if _, err := s.Driver.Start(Context(t), spec, core.Stdio{Stdin: strings.NewReader(text), Stdout: &out}); err != nil {
				t.Errorf("start instance %d: %v", i, err)
				return
			}
			if exit, err := s.Driver.Wait(Context(t), spec.ID); err != nil || exit.Code != 0 {
				t.Errorf("instance %d ended with %+v and %v", i, exit, err)
			}
			if out.String() != text {
				t.Errorf("instance %d printed %q", i, out.String())
			}
		})
	}
	wg.Wait()
}

func tellsGone(t *testing.T, s *suite) {
	ctx, id := Context(t), NextID()
	_, waitErr := s.Driver.Wait(ctx, id)
	_, usageErr := s.Driver.Usage(id)
	_, dialErr := s.Driver.Dial(ctx, id, 80)
	p := s.start(t, "exit", "0")
	p.Code(0)
	_, dialEnded := s.Driver.Dial(ctx, p.ID, 80)
	for what, err := range map[string]error{
		"Wait": waitErr, "Usage": usageErr, "Dial": dialErr, "Stop": s.Driver.Stop(ctx, id, time.Hour),
		"Drain": s.Driver.Drain(id), "Freeze": s.Driver.Freeze(ctx, id), "Thaw": s.Driver.Thaw(ctx, id),
		"Dial of an ended one": dialEnded, "Freeze of an ended one": s.Driver.Freeze(ctx, p.ID), "Thaw of an ended one": s.Driver.Thaw(ctx, p.ID),
	} {
		if !errors.Is(err, core.ErrGone) || errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s gives %v, want ErrGone", what, err)
		}
	}
	if err := s.Driver.Stop(ctx, p.ID, 0); err != nil && !errors.Is(err, core.ErrGone) {
		t.Errorf("Stop of an ended one gives %v", err)
	}
}
