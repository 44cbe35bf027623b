package contract_test

import (
	"slices"
	"testing"

	"github.com/dayfly-io/dayfly/internal/contract"
	"github.com/dayfly-io/dayfly/internal/core"
)

func TestEnv(t *testing.T) {
	t.Parallel()
	def := &core.Definition{
		App:      core.App{Name: "shop"},
		Function: core.Function{Name: "resize"},
		Version:  core.Version{Number: 12, Spec: core.Spec{Memory: 64 * core.MiB, CPU: 500}},
	}
	want := []string{
		"DAYFLY_APP=shop", "DAYFLY_FUNCTION=resize", "DAYFLY_VERSION=12",
		"DAYFLY_MEMORY=67108864", "DAYFLY_CPU=0.5", "DAYFLY_NODE=n1",
	}
	if got := contract.Env(def, "n1"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
