package core_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
)

func TestCapabilitiesRefuseWhatTheDriverCannotDo(t *testing.T) {
	t.Parallel()
	none := core.Capabilities{
		Driver: "docker", Networks: []core.Network{core.NetworkEgress},
		Missing: []core.Shortcoming{{Name: "sockets", Why: "the engine is on another machine", Remedy: "run dayfly beside it"}},
	}
	spec := core.Spec{Image: "a", Network: core.NetworkEgress}.WithDefaults()
	if err := none.Check(spec); err != nil {
		t.Errorf("what it can do is refused: %v", err)
	}
	spec.Contract = core.ContractFDK
	err := none.Check(spec)
	if !core.IsKind(err, core.KindNotImplemented) || !strings.Contains(err.Error(), "run dayfly beside it") {
		t.Errorf("fdk without sockets gives %v", err)
	}
	spec = core.Spec{Image: "a", Network: core.NetworkNone}.WithDefaults()
	if err := none.Check(spec); !core.IsKind(err, core.KindNotImplemented) {
		t.Errorf("a network it does not have gives %v", err)
	}
}

func TestCapabilitiesHaveNames(t *testing.T) {
	t.Parallel()
	if got := (core.Capabilities{}).Names(); got == nil || len(got) != 0 {
		t.Errorf("nothing is told as %#v, want an empty list", got)
	}
	c := core.Capabilities{
		Networks: []core.Network{core.NetworkNone, core.NetworkEgress}, Sockets: true, Freeze: true, Memory: true, Pids: true,
		CPUWeight: true, WritableRoot: true, Mounts: true,
	}
	want := []string{"network_none", "network_egress", "sockets", "freeze", "limit_memory", "limit_pids", "weight_cpu", "writable_root", "mounts"}
	if got := c.Names(); !slices.Equal(got, want) {
		t.Errorf("the names are %v, want %v", got, want)
	}
}

func TestCapabilitiesRefuseRootsAndMounts(t *testing.T) {
	t.Parallel()
	none := core.Capabilities{Driver: "docker", Networks: []core.Network{core.NetworkEgress}}
	all := none
	all.WritableRoot, all.Mounts = true, true
	all.Directories = []core.HostDirectory{{Name: "data", Path: "/srv"}, {Name: "models", Path: "/models", ReadOnly: true}}
	root := func(s *core.Spec) { s.Root.Writable = core.MiB }
	mount := func(name string, readOnly bool) func(*core.Spec) {
		return func(s *core.Spec) { s.Mounts = []core.Mount{{Name: name, Path: "/data", ReadOnly: readOnly}} }
	}
	for name, tc := range map[string]struct {
		can    core.Capabilities
		change func(*core.Spec)
		kind   core.Kind
		text   string
	}{
		"no root":       {none, root, core.KindNotImplemented, "leave root out"},
		"root":          {all, root, "", ""},
		"no mounts":     {none, mount("data", false), core.KindNotImplemented, "leave mounts out"},
		"mount":         {all, mount("data", false), "", ""},
		"mount to read": {all, mount("data", true), "", ""},
		"unknown":       {all, mount("else", true), core.KindForbidden, "--allow-mount else="},
		"read only":     {all, mount("models", true), "", ""},
		"written to":    {all, mount("models", false), core.KindForbidden, "set read_only"},
	} {
		spec := core.Spec{Image: "a"}.WithDefaults()
		tc.change(&spec)
		err := tc.can.Check(spec)
		if tc.kind == "" && err != nil || tc.kind != "" && (!core.IsKind(err, tc.kind) || !strings.Contains(err.Error(), tc.text)) {
			t.Errorf("%s gives %v", name, err)
		}
	}
}
