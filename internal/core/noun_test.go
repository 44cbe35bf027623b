package core_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

func TestValidateName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "resize", "Größe_2-x", "函数", "٣", strings.Repeat("ü", 255), "-", "_"} {
		if err := core.ValidateName("function", name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "a b", "a/b", "a.b", "a\x00", "\xff", "é\xc3", strings.Repeat("a", 256), "🙂", "..", "a\n"} {
		err := core.ValidateName("function", name)
		if !core.IsKind(err, core.KindInvalid) || !strings.Contains(err.Error(), "function") {
			t.Errorf("%q: got %v", name, err)
		}
	}
	if err := core.ValidateName("app", strings.Repeat("é", 256)); err == nil || !strings.Contains(err.Error(), "256 characters; it may have 1 to 255") {
		t.Errorf("got %v", err)
	}
}

func TestAnnotations(t *testing.T) {
	t.Parallel()
	many := core.Annotations{}
	for i := range 100 {
		many[fmt.Sprint(i)] = []byte("1")
	}
	for name, a := range map[string]core.Annotations{
		"none": nil, "some": {"a/b.c": []byte(`{"x": [1]}`), "~": []byte("null")}, "many": many,
		"long": {strings.Repeat("k", 128): []byte(`"` + strings.Repeat("v", 510) + `"`)},
	} {
		if err := a.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	more := core.Annotations{"x": []byte("1")}
	maps.Copy(more, many)
	for text, a := range map[string]core.Annotations{
		"at most 100":   more,
		"1 to 128":      {strings.Repeat("k", 129): []byte("1")},
		"0 bytes":       {"": []byte("1")},
		"not printable": {"a b": []byte("1")},
		`"é"`:           {"é": []byte("1")},
		"1 to 512":      {"k": []byte(`"` + strings.Repeat("v", 511) + `"`)},
		"JSON value":    {"k": []byte("{")},
		`"empty"`:       {"empty": nil},
	} {
		if err := a.Validate(); !core.IsKind(err, core.KindInvalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v", text, err)
		}
	}
	a := core.Annotations{"k": []byte(`{"a": [1, 2]}`)}
	if !a.Equal(core.Annotations{"k": []byte(`{"a":[1,2]}`)}) || a.Equal(core.Annotations{"k": []byte(`{"a":[1]}`)}) || a.Equal(nil) || !core.Annotations(nil).Equal(core.Annotations{}) {
		t.Error("annotations are compared by something else than their values")
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	for i, s := range core.States {
		if got, err := core.ParseState(string(s)); err != nil || got != s || s.Final() != (i >= 3) {
			t.Errorf("%s is read as %s, %v; final %v", s, got, err, s.Final())
		}
	}
	if len(core.States) != 8 || core.State("").Final() {
		t.Error("there is another state")
	}
	if _, err := core.ParseState("dead"); !core.IsKind(err, core.KindInvalid) || !strings.Contains(err.Error(), "timed_out") {
		t.Errorf("got %v", err)
	}
}

func TestRunFilter(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	run := core.Run{App: "shop", Function: "resize", State: core.StateFailed, CreatedAt: at}
	for _, tc := range []struct {
		filter core.RunFilter
		want   bool
	}{
		{core.RunFilter{}, true},
		{core.RunFilter{App: "shop", Function: "resize", States: []core.State{core.StateQueued, core.StateFailed}, Since: at, Until: at.Add(1)}, true},
		{core.RunFilter{App: "shopping"}, false},
		{core.RunFilter{Function: "Resize"}, false},
		{core.RunFilter{States: []core.State{core.StateQueued}}, false},
		{core.RunFilter{Since: at.Add(1)}, false},
		{core.RunFilter{Until: at}, false},
	} {
		if got := tc.filter.Match(run); got != tc.want {
			t.Errorf("%+v lets it pass: %v", tc.filter, got)
		}
	}
}

func TestRunTimes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	run := core.Run{CreatedAt: at}
	if run.Queue() != 0 || run.Duration(at.Add(time.Hour)) != 0 {
		t.Error("a run that has not started has worked")
	}
	run.StartedAt, run.Start = at.Add(10*time.Second), core.StartPhases{Image: time.Second, Sandbox: time.Second, Boot: 2 * time.Second}
	if run.Queue() != 6*time.Second || run.Duration(at.Add(time.Minute)) != 50*time.Second {
		t.Errorf("got %s and %s", run.Queue(), run.Duration(at.Add(time.Minute)))
	}
	run.FinishedAt = at.Add(11 * time.Second)
	if run.Duration(at.Add(time.Minute)) != time.Second {
		t.Errorf("got %s", run.Duration(at.Add(time.Minute)))
	}
	run.Start.Image = time.Hour // measured on another clock
	if run.Queue() != 0 {
		t.Errorf("got %s", run.Queue())
	}
}

func TestOrphaned(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct{ started, end, want time.Time }{
		{at.Add(time.Second), at.Add(time.Minute + 1), at.Add(time.Minute)},
		{at.Add(time.Second), at, at.Add(time.Second)}, // the clock was set back
		{time.Time{}, at.Add(-time.Hour), at},
	} {
		got := core.Run{State: core.StateRunning, CreatedAt: at, StartedAt: tc.started}.Orphaned(tc.end)
		if got.State != core.StateFailed || got.Reason != core.ReasonServerRestarted || got.Message == "" || !got.FinishedAt.Equal(tc.want) {
			t.Errorf("got %+v, want the end at %s", got, tc.want)
		}
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	list := func(s string) []string { return strings.Fields(s) }
	arg := "the body"
	for _, tc := range []struct {
		entrypoint, cmd, command string
		argument                 *string
		want                     []string
	}{
		{"", "", "", nil, nil},
		{"/e -x", "c d", "", nil, list("/e -x c d")},
		{"", "c d", "", nil, list("c d")},
		{"/e", "c d", "/f g", nil, list("/f g")},
		{"/e", "c d", "", &arg, []string{"/e", arg}},
		{"/e", "c d", "/f g", &arg, []string{"/f", "g", arg}},
	} {
		entrypoint := slices.Grow(list(tc.entrypoint), 8)
		c := core.ImageConfig{Entrypoint: entrypoint, Cmd: list(tc.cmd)}
		got := c.Process(list(tc.command), tc.argument)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%+v: got %q", tc, got)
		}
		if more := append(got, "x"); len(entrypoint) > 0 && cap(entrypoint) > 1 && entrypoint[:len(entrypoint)+1][len(entrypoint)] == "x" {
			t.Errorf("%q shares memory with the image's config", more)
		}
	}
}

func TestExitText(t *testing.T) {
	t.Parallel()
	for text, e := range map[string]core.Exit{
		"memory limit":     {Code: 137, Signal: 9, OOM: true},
		"no exit code":     {Lost: true},
		"killed by signal": {Code: 139, Signal: 11},
		"exited with code": {Code: 3},
	} {
		if !strings.Contains(e.String(), text) {
			t.Errorf("%+v is %q", e, e)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	err := fmt.Errorf("doing x: %w", core.Unavailable(core.ReasonDiskFull, cause, "the disk of %s is full", "a"))
	e := core.AsError(err)
	if e.Kind != core.KindUnavailable || e.Code != core.ReasonDiskFull || e.Message != "the disk of a is full" || !errors.Is(err, cause) || e.Error() != "the disk of a is full: cause" {
		t.Errorf("got %+v", e)
	}
	if !core.IsKind(err, core.KindUnavailable) || core.IsKind(err, core.KindInternal) || core.IsKind(cause, core.KindInternal) {
		t.Error("the kind of an error is another")
	}
	if e := core.AsError(cause); e.Kind != core.KindInternal || strings.Contains(e.Message, "cause") || !errors.Is(e, cause) {
		t.Errorf("got %+v", e)
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]int{-1: 50, 0: 50, 1: 1, 1000: 1000, 1001: 1000} {
		if got := (core.Page{Limit: limit}).Size(); got != want {
			t.Errorf("a limit of %d is %d", limit, got)
		}
	}
	same := func(a, b string) bool {
		a, b = strings.ReplaceAll(a, "\x00", ""), strings.ReplaceAll(b, "\x00", "")
		got, err := core.Page{Cursor: core.Cursor(a, b)}.After(2)
		return err == nil && slices.Equal(got, []string{a, b})
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
	if id, err := (core.Page{}).AfterRun(); id != 0 || err != nil {
		t.Errorf("the first page begins after %d, %v", id, err)
	}
	if id, err := (core.Page{Cursor: core.Cursor(core.RunID(7).String())}).AfterRun(); id != 7 || err != nil {
		t.Errorf("got %d, %v", id, err)
	}
	for _, c := range []string{"!", core.Cursor("a", "b"), core.Cursor("fn_0000000000001"), core.Cursor(core.RunID(0).String())} {
		if _, err := (core.Page{Cursor: c}).AfterRun(); !core.IsKind(err, core.KindInvalid) {
			t.Errorf("%q: got %v", c, err)
		}
	}
}

func TestNewVersionValidates(t *testing.T) {
	t.Parallel()
	good := core.NewVersion{App: "a", Function: "f", Spec: core.Spec{Image: "i"}.WithDefaults()}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*core.NewVersion){
		"app": func(n *core.NewVersion) { n.App = "" }, "function": func(n *core.NewVersion) { n.Function = "a b" },
		"annotation": func(n *core.NewVersion) { n.Annotations = core.Annotations{"k": nil} }, "image": func(n *core.NewVersion) { n.Spec.Image = "" },
	} {
		n := good
		change(&n)
		if err := n.Validate(); !core.IsKind(err, core.KindInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
