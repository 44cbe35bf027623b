package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// goSource is a job to be built from source.
const goSource = `package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	b, _ := io.ReadAll(os.Stdin)
	fmt.Printf("built %s: %s", os.Getenv("DAYFLY_FUNCTION"), b)
}
`

// goFunction writes a directory with a manifest that builds a job.
func goFunction(t *testing.T, manifest string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"dayfly.yaml": manifest, "word/main.go": goSource, "word/go.mod": "module word\n\ngo 1.25\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const goManifest = "app: built\nfunctions:\n  word:\n    build: {runtime: go, source: ./word}\n    contract: job\n    memory: 64MiB\n"

// The same source makes the same image, wherever it lies: a second deploy
// changes nothing.
func TestDeployFromSourceIsReproducible(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	first := goFunction(t, goManifest)
	wantWords(t, s.does(t, "deploy", first), "FUNCTION", "built/word", s.url+"/f/built/word")
	if got := s.does(t, "invoke", "built/word", "-d", "me"); got != "built word: me" {
		t.Fatalf("the function answered %q", got)
	}
	before := decode[api.Function](t, s.does(t, "function", "show", "built/word", "--json"))
	again := decode[api.List[api.Function]](t, s.does(t, "deploy", "--json", first)).Items
	elsewhere := decode[api.List[api.Function]](t, s.does(t, "deploy", "--json", goFunction(t, goManifest))).Items
	for _, list := range [][]api.Function{again, elsewhere} {
		if len(list) != 1 || list[0].Version != 1 || list[0].Digest != before.Digest || list[0].ETag != before.ETag {
			t.Errorf("the same source made something else: %+v, before %+v", list, before)
		}
	}
	// In the directory itself, with another source: a new version.
	if err := os.WriteFile(filepath.Join(first, "word/main.go"), []byte(strings.Replace(goSource, "built", "rebuilt", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := s.command(t, nil, "deploy", "--json")
	cmd.Dir = first
	r := run(t, cmd)
	if r.code != 0 {
		t.Fatal(r)
	}
	if list := decode[api.List[api.Function]](t, r.out).Items; list[0].Version != 2 || list[0].Digest == before.Digest {
		t.Errorf("another source should make version 2: %+v", list)
	}
	if got := s.does(t, "invoke", "built/word", "-d", "me"); got != "rebuilt word: me" {
		t.Errorf("the function answered %q", got)
	}
}

func TestDeployThatDoesNotCompile(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	dir := goFunction(t, strings.Replace(goManifest, "app: built", "app: uncompiled", 1))
	if err := os.WriteFile(filepath.Join(dir, "word/main.go"), []byte("package main\n\nfunc main() { nonsense() }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.fails(t, 1, []string{"main.go:3", "undefined: nonsense", "does not compile"}, "deploy", dir)
	s.fails(t, 3, nil, "function", "show", "uncompiled/word")
}

func TestBadManifests(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	for _, c := range []struct {
		name, manifest string
		words          []string
	}{
		{"unknown key", "functions:\n  f:\n    image: misbehave:1\n    memroy: 64MiB\n", []string{"dayfly.yaml:4:5", "memroy", "memory"}},
		{"unknown key at the top", "ap: x\nfunctions:\n  f: {image: misbehave:1}\n", []string{"dayfly.yaml:1:1", "ap", "app"}},
		{"unknown key of limits", "functions:\n  f:\n    image: misbehave:1\n    limits: {pid: 3}\n", []string{"dayfly.yaml:4", "pid", "pids"}},
		{"no unit", "functions:\n  f:\n    image: misbehave:1\n    memory: 128\n", []string{"dayfly.yaml:4", "memory", "128MiB"}},
		{"wrong value", "functions:\n  f:\n    image: misbehave:1\n    contract: https\n", []string{"dayfly.yaml:4", "contract", "http"}},
		{"no functions", "app: x\n", []string{"functions"}},
		{"neither image nor build", "functions:\n  f: {memory: 64MiB}\n", []string{"dayfly.yaml:2", "image", "build"}},
		{"syntax", "functions:\n  f: {image: \n", []string{"dayfly.yaml:"}},
		{"twice", "functions:\n  f: {image: misbehave:1}\n  f: {image: misbehave:1}\n", []string{"dayfly.yaml:3", "f"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s.fails(t, 1, c.words, "deploy", filepath.Dir(save(t, "dayfly.yaml", []byte(c.manifest))), "--app", "badmanifest")
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		s.fails(t, 3, []string{"dayfly.yaml", "dayfly init"}, "deploy", t.TempDir())
	})
	t.Run("an image that is not there", func(t *testing.T) {
		t.Parallel()
		path := save(t, "dayfly.yaml", []byte("functions:\n  f: {image: nowhere:1}\n"))
		// Its registry cannot be reached, so that it may yet be found.
		r := s.cli(t, "deploy", filepath.Dir(path), "--app", "badmanifest")
		if r.code != 0 {
			t.Errorf("the exit code should be 0:\n%s", r)
		}
		wantWords(t, r.err, "The image nowhere:1 is not on the server", "the first call of badmanifest/f looks for it")
		s.call(t, "POST", "/f/badmanifest/f", "").problem(t, 503, api.ReasonImagePullFailed, "library/nowhere")
		s.fails(t, 1, []string{"library/nowhere"}, "deploy", filepath.Dir(path), "--app", "badmanifest", "--pull")
	})
}

func TestFunctionCommands(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	wantWords(t, s.does(t, "function", "create", "one", "--app", "fn", "--image", "misbehave:1", "--command", "/misbehave", "--command", "cat",
		"--contract", "job", "--memory", "32MiB", "--cpu", "0.5", "--timeout", "7s", "--env", "A=1", "--env", "B=x=y", "--network", "none",
		"--description", "the first"), s.url+"/f/fn/one")
	f := decode[api.Function](t, s.does(t, "function", "show", "fn/one", "--json"))
	if f.Contract != "job" || f.Memory != 32<<20 || f.CPU != 0.5 || time.Duration(f.Timeout) != 7*time.Second || f.Network != "none" ||
		f.Env["A"] != "1" || f.Env["B"] != "x=y" || f.Version != 1 || f.Description != "the first" || !strings.HasPrefix(f.Digest, "sha256:") {
		t.Errorf("function show told %+v", f)
	}
	wantWords(t, s.does(t, "function", "show", "one", "--app", "fn"), "fn/one", "32MiB", "0.5", "7s", "A=1", "misbehave:1", "job", "none", "the first")
	s.does(t, "function", "create", "two", "--app", "fn", "--image", "misbehave:1", "--json")
	list := s.does(t, "function", "list", "--app", "fn")
	wantWords(t, list, "FUNCTION", "one", "two", "http", "job", "32MiB", "128MiB")
	items := decode[api.List[api.Function]](t, s.does(t, "function", "list", "--app", "fn", "--json")).Items
	if len(items) != 2 || items[0].Name != "one" || items[1].Name != "two" {
		t.Errorf("function list told %+v", items)
	}
	s.fails(t, 5, []string{`"one"`, `"fn"`, "already"}, "function", "create", "one", "--app", "fn", "--image", "misbehave:1")
	s.does(t, "function", "delete", "fn/one")
	s.fails(t, 3, []string{`"one"`, `"fn"`}, "function", "show", "fn/one")
	s.fails(t, 3, []string{`"one"`, `"fn"`}, "function", "delete", "fn/one")
	s.fails(t, 3, []string{`"one"`, `"fn"`}, "invoke", "fn/one", "-d", "")
	wantWords(t, s.does(t, "app", "list"), "APP", "fn")
	apps := decode[api.List[api.App]](t, s.does(t, "app", "list", "--json")).Items
	if !slices.ContainsFunc(apps, func(a api.App) bool { return a.Name == "fn" && strings.HasPrefix(a.ID, "app_") }) {
		t.Errorf("app list told %+v", apps)
	}
}

func TestFunctionCreateRefuses(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	create := []string{"function", "create", "f", "--app", "refuse", "--image", "misbehave:1"}
	for _, c := range []struct {
		code  int
		words []string
		args  []string
	}{
		{2, []string{"--image"}, []string{"function", "create", "f"}},
		{2, []string{"NAME"}, []string{"function", "create", "--image", "x"}},
		{2, []string{"128MiB"}, append(slices.Clip(create), "--memory", "128")},
		{2, []string{"processors"}, append(slices.Clip(create), "--cpu", "many")},
		{2, []string{"K=V"}, append(slices.Clip(create), "--env", "NOTHING")},
		{1, []string{"1MiB", "4MiB"}, append(slices.Clip(create), "--memory", "1MiB")},
		{1, []string{"DAYFLY_"}, append(slices.Clip(create), "--env", "DAYFLY_APP=x")},
		{1, []string{"contract", "job", "http"}, append(slices.Clip(create), "--contract", "smoke")},
		{1, []string{"No:Where:1"}, []string{"function", "create", "f", "--image", "No:Where:1"}},
		{3, []string{"sha256:00000000"}, []string{"function", "create", "f", "--image", "sha256:" + strings.Repeat("0", 64)}},
		{1, []string{"a b"}, []string{"function", "create", "a b", "--image", "misbehave:1"}},
		{2, []string{"did you mean", "create"}, []string{"function", "craete"}},
		{2, []string{"--nonsense"}, []string{"function", "list", "--nonsense"}},
		{2, []string{"run needs a command"}, []string{"run"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			s.fails(t, c.code, c.words, c.args...)
		})
	}
}

func TestRunCommands(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "runs", "good", "cat", "--contract", "job")
	s.create(t, "runs", "bad", "exit 3", "--contract", "job")
	for i := range 3 {
		s.does(t, "invoke", "runs/good", "-d", fmt.Sprint(i))
	}
	s.fails(t, 20, []string{"code 3", "my last words", "run_"}, "invoke", "runs/bad", "-d", "")
	items := func(args ...string) []api.Run {
		t.Helper()
		return decode[api.List[api.Run]](t, s.does(t, append([]string{"run", "list", "--json"}, args...)...)).Items
	}
	all := items("--app", "runs")
	if len(all) != 4 || all[0].Function != "bad" || all[0].State != api.StateFailed || all[0].Reason != "exit_code" || all[0].ExitCode != 3 {
		t.Fatalf("run list told %+v", all)
	}
	for i := range all[1:] {
		if all[i].ID <= all[i+1].ID || all[i].CreatedAt.Before(all[i+1].CreatedAt) {
			t.Errorf("runs should be listed newest first: %s, %s", all[i].ID, all[i+1].ID)
		}
	}
	for _, c := range []struct {
		want int
		args []string
	}{
		{3, []string{"--app", "runs", "--function", "good"}},
		{1, []string{"--app", "runs", "--state", "failed,timed_out"}},
		{4, []string{"--app", "runs", "--state", "failed", "--state", "succeeded"}},
		{0, []string{"--app", "runs", "--function", "good", "--state", "failed"}},
		{4, []string{"--app", "runs", "--since", "1h"}},
		{0, []string{"--app", "runs", "--until", "1h"}},
		{2, []string{"--app", "runs", "--since", all[1].CreatedAt.Format(time.RFC3339Nano)}},
		{2, []string{"--app", "runs", "--until", all[1].CreatedAt.Format(time.RFC3339Nano)}},
		{2, []string{"--app", "runs", "--limit", "2"}},
		{4, []string{"--app", "runs", "--all"}},
		{0, []string{"--app", "nothing"}},
	} {
		if got := items(c.args...); len(got) != c.want {
			t.Errorf("run list %v told %d runs, want %d", c.args, len(got), c.want)
		}
	}
	wantWords(t, s.does(t, "run", "list", "--app", "runs"), "RUN", "STATE", "runs/good", "succeeded", "failed", "exit_code", "cold")
	id := all[0].ID
	wantWords(t, s.does(t, "run", "show", id), id, "runs/bad, version 1", "failed", "exit_code", "code 3", "cold")
	if r := decode[api.Run](t, s.does(t, "run", "show", id, "--json")); r.ID != id || r.ExitCode != 3 || !r.Cold || r.Start == nil || r.Usage.CPUMS <= 0 {
		t.Errorf("run show told %+v", r)
	}
	log := strings.Split(strings.TrimSpace(s.does(t, "run", "logs", id)), "\n")
	if len(log) != 21 || log[0] != "line 0" || log[20] != "my last words" {
		t.Errorf("run logs told %q", log)
	}
	first, _, _ := strings.Cut(s.does(t, "run", "logs", "--json", id), "\n")
	if l := decode[api.LogLine](t, first); l.Text != "line 0" || l.Stream != "stderr" || l.Sequence != 1 || l.Time.IsZero() {
		t.Errorf("run logs --json told %+v", l)
	}
	s.fails(t, 5, []string{id, "failed"}, "run", "cancel", id)
	for _, verb := range []string{"show", "logs", "cancel"} {
		s.fails(t, 3, []string{"run_0000000000001"}, "run", verb, "run_0000000000001")
		s.fails(t, 1, []string{"nonsense"}, "run", verb, "nonsense")
	}
	s.fails(t, 2, []string{"sleeping", "succeeded"}, "run", "list", "--state", "sleeping")
	s.fails(t, 2, []string{"--since"}, "run", "list", "--since", "yesterday")
}

func TestInstanceList(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "instances", "f", "web")
	s.get(t, "/f/instances/f/hello").want(t, http.StatusOK)
	wantWords(t, s.does(t, "instance", "list"), "INSTANCE", "instances/f", "64MiB")
	i := s.instances(t, "instances")
	if len(i) != 1 || i[0].Driver != "sandbox" || i[0].State != "hot" && i[0].State != "frozen" || i[0].Served != 1 || i[0].Version != 1 || i[0].Start.SandboxMS <= 0 {
		t.Errorf("instance list told %+v", i)
	}
	if list := decode[api.List[api.Instance]](t, s.does(t, "instance", "list", "--json")); len(list.Items) == 0 {
		t.Error("instance list --json is empty")
	}
}

func TestInvokeCommand(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "invoke", "f", "web")
	s.create(t, "invoke", "job", "cat", "--contract", "job")
	s.does(t, "function", "create", "home", "--image", "misbehave:1", "--command", "/misbehave", "--command", "print", "--command", "default app", "--contract", "job")

	r := s.cli(t, "invoke", "invoke/f", "-d", `{"a":1}`, "-i", "--header", "X-Mine: 5", "--method", "put", "--path", "/a%20b/c?q=1&r=%2F")
	e := decode[echoed](t, r.out)
	if r.code != 0 || e.Method != "PUT" || e.Path != "/a%20b/c" || e.Body != `{"a":1}` || e.Header.Get("X-Mine") != "5" ||
		e.Header.Get("Content-Type") != "application/json" || !strings.Contains(e.Query, "q=1") || !strings.Contains(e.Query, "r=%2F") {
		t.Errorf("the function was asked %+v", e)
	}
	wantWords(t, r.err, "200 OK", "X-Own: mine", "Dayfly-Run-Id: run_", "Server-Timing: queue;dur=", "cold start")

	file := save(t, "body", []byte("from a file"))
	if got := s.does(t, "invoke", "invoke/job", "-d", "@"+file); got != "from a file" {
		t.Errorf("with -d @FILE it answered %q", got)
	}
	cmd := s.command(t, []string{"DAYFLY_APP=invoke"}, "invoke", "job")
	cmd.Stdin = strings.NewReader("from standard input")
	if r := run(t, cmd); r.out != "from standard input" || r.code != 0 {
		t.Errorf("with DAYFLY_APP and standard input: %s", r)
	}
	if got := s.does(t, "invoke", "home", "-d", ""); got != "default app" {
		t.Errorf("without an app it answered %q", got)
	}
	s.fails(t, 3, []string{"no such file"}, "invoke", "invoke/job", "-d", "@/does/not/exist")
	s.fails(t, 20, []string{"503", "The run is run_"}, "invoke", "invoke/f", "--path", "/status?code=503")
	if r := s.cli(t, "invoke", "invoke/f", "--path", "/status?code=404"); r.code != 0 || r.out != "as you asked\n" || !strings.Contains(r.err, "404") {
		t.Errorf("a 404 of the function is its answer: %s", r)
	}
	s.fails(t, 3, []string{`"nothing"`, `"invoke"`}, "invoke", "invoke/nothing", "-d", "")
}

func TestServerThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := &server{env: []string{"DAYFLY_URL=http://127.0.0.1:1"}}
	s.fails(t, 7, []string{"http://127.0.0.1:1", "dayfly server"}, "function", "list")
	s.fails(t, 2, []string{"nonsense://"}, "function", "list", "--url", "nonsense://")
	// The flag wins over the variable.
	good := shared.get(t)
	s.does(t, "function", "list", "--url", good.url)
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	wantWords(t, s.does(t, "--version"), "dayfly ")
	s.does(t, "version")
	s.does(t, "version", "--json")
	for _, cmd := range []string{"", "server", "deploy", "image load", "function create", "invoke", "run list", "run logs", "instance list", "app list", "init"} {
		wantWords(t, s.does(t, append(strings.Fields(cmd), "--help")...), "Usage:", "--help")
	}
}

func TestInitMakesWhatCanBeDeployed(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	dir := t.TempDir()
	cmd := s.command(t, []string{"DAYFLY_APP=initial"}, "init", "greet", "--runtime", "go")
	cmd.Dir = dir
	if r := run(t, cmd); r.code != 0 {
		t.Fatal(r)
	}
	s.does(t, "deploy", filepath.Join(dir, "greet"), "--app", "initial")
	wantWords(t, s.does(t, "invoke", "initial/greet", "-d", `{"name":"world"}`), "world")
}

// A followed log comes line by line while the run goes on, and ends with it.
func TestFollowLogsLive(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "follow", "f", "steps 100ms 1h", "--contract", "job", "--timeout", "1m")
	call := later(s.request(t.Context(), t, "POST", "/f/follow/f", nil))
	id := s.running(t, "follow", "f")
	cmd := s.command(t, nil, "run", "logs", "-f", id)
	out := &text{}
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "both steps are told", patience, func() (string, bool) {
		return out.String(), strings.Contains(out.String(), "::progress 100 step 2")
	})
	if r := s.runOf(t, id); r.State != api.StateRunning || r.Progress == nil || r.Progress.Percent != 100 || r.Progress.Text != "step 2" {
		t.Errorf("the run should go on and be in step 2: %+v", r)
	}
	s.does(t, "run", "cancel", id)
	if err := cmd.Wait(); err != nil {
		t.Errorf("run logs -f: %v", err)
	}
	within(t, "the answer to the cancelled call", patience, call).problem(t, 409, "cancelled_by_user", "cancelled")
	s.wantRun(t, id, api.StateCancelled, "cancelled_by_user")
	// Followed by server-sent events, and again from the second line on.
	for after, want := range map[string]int{"": 2, "1": 1} {
		r := s.request(t.Context(), t, "GET", "/v1/runs/"+id+"/logs", nil)
		r.Header.Set("Accept", "text/event-stream")
		if after != "" {
			r.Header.Set("Last-Event-ID", after)
		}
		a := send(t, r).want(t, http.StatusOK)
		if n := strings.Count(a.body, "event: log\n"); n != want || strings.Count(a.body, "event: end\n") != 1 || a.header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("after %q there should be %d lines and an end: %s", after, want, a.body)
		}
	}
}

func TestLogIsCutAtItsLimit(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "cut", "job", "flood 3000000", "--contract", "job")
	s.create(t, "cut", "web", "web")
	for _, target := range []string{"/f/cut/job", "/f/cut/web/log?bytes=3000000"} {
		a := s.get(t, target).want(t, http.StatusOK)
		r := s.wantRun(t, a.run(t), api.StateSucceeded, "")
		if r.LogBytes < 3_000_000 {
			t.Errorf("%s: the run printed 3,000,000 bytes and is said to have printed %d", target, r.LogBytes)
		}
		out := s.does(t, "run", "logs", r.ID)
		if n := len(out); n < 900<<10 || n > 1<<20+200 {
			t.Errorf("%s: the log has %d bytes, want a little less than 1 MiB", target, n)
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		last := lines[len(lines)-1]
		wantWords(t, last, "log cut", "1MiB", "limits.log")
		for i, line := range lines[:len(lines)-1] {
			if !strings.HasPrefix(line, fmt.Sprintf("%08d ", i)) {
				t.Fatalf("%s: line %d is %q", target, i, line)
			}
		}
		if tail := bytes.Count([]byte(out), []byte("log cut")); tail != 1 {
			t.Errorf("%s: the mark stands there %d times", target, tail)
		}
	}
}
