package core_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
)

func TestRootIsOneText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]core.Root{
		"read_only": {}, "writable(64MiB)": {Writable: 64 * core.MiB}, "writable(1.5MiB)": {Writable: 3 * core.MiB / 2}, " writable( 1MiB ) ": {Writable: core.MiB},
	} {
		got, err := core.ParseRoot(text)
		if err != nil || got != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
		if again, err := core.ParseRoot(got.String()); err != nil || again != got {
			t.Errorf("%q becomes %q, which is %v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "writable", "writable()", "writable(64)", "writable(0B)", "writable(-1MiB)", "writable(1MiB", "rw"} {
		if got, err := core.ParseRoot(text); !core.IsKind(err, core.KindInvalid) || !strings.Contains(err.Error(), "is not a root") {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	spec := core.Spec{Image: "i", Root: core.Root{Writable: core.MiB}}.WithDefaults()
	text, err := json.Marshal(spec)
	if err != nil || !strings.Contains(string(text), `"root":"writable(1MiB)"`) {
		t.Errorf("got %s, %v", text, err)
	}
	var back core.Spec
	if err := json.Unmarshal(text, &back); err != nil || !back.Equal(spec) {
		t.Errorf("it becomes %+v, %v", back, err)
	}
}

func TestParseHostDirectory(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]core.HostDirectory{
		"data=/srv/data":           {Name: "data", Path: "/srv/data"},
		"data=/srv/data:ro":        {Name: "data", Path: "/srv/data", ReadOnly: true},
		"tools=/opt/tools:ro:exec": {Name: "tools", Path: "/opt/tools", ReadOnly: true, Exec: true},
		"a=/srv/a:b/c":             {Name: "a", Path: "/srv/a:b/c"},
		"a=/srv/a=b:exec":          {Name: "a", Path: "/srv/a=b", Exec: true},
	} {
		if got, err := core.ParseHostDirectory(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	for text, says := range map[string]string{
		"data": "NAME=/path", "=/srv": "name of the directory", "a b=/srv": "' '", "a=srv": "absolute", "a=/srv/../etc": "absolute",
		"a=/srv/": "absolute", "a=/": "whole machine", "a=/srv:rw": `"rw"`, "a=": "absolute", "a=:ro": "absolute",
	} {
		if got, err := core.ParseHostDirectory(text); !core.IsKind(err, core.KindInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q is %+v, %v; want an error with %q", text, got, err, says)
		}
	}
}

func TestKeysThatCannotBeHadYet(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"gpus", "devices"} {
		if err := core.NotYet(key); !core.IsKind(err, core.KindNotImplemented) || !strings.Contains(err.Error(), "leave "+key+" out") {
			t.Errorf("%s gives %v", key, err)
		}
	}
	if err := core.NotYet("memory"); err != nil {
		t.Error(err)
	}
}
