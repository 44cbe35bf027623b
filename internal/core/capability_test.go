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
	}
	want := []string{"network_none", "network_egress", "sockets", "freeze", "limit_memory", "limit_pids"}
	if got := c.Names(); !slices.Equal(got, want) {
		t.Errorf("the names are %v, want %v", got, want)
	}
}
