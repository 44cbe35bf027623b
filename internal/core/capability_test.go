package core_test

import (
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
