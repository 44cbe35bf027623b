package cli

import (
	"bytes"
	"testing"

	"github.com/dayfly-io/dayfly/api"
)

// On a terminal the progress is one line that is written over and taken away.
func TestMeterOnATerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	m := &meter{out: &out, live: true}
	p := api.PullProgress{Image: "r/a\x1b:1", Phase: api.PullResolving}
	m.show(p)
	m.show(p) // the same is not written twice
	p = api.PullProgress{Phase: api.PullUnpacking, Layers: 2, LayersDone: 1}
	m.show(p)
	m.end()
	first, second := "Asking the registry for r/a\uFFFD:1", "Unpacking: 1 of 2 layers"
	pad := func(n int) string { return string(bytes.Repeat([]byte(" "), n)) }
	want := "\r" + first + "\r" + second + pad(len([]rune(first))-len(second)) + "\r" + pad(len(second)) + "\r"
	if got := out.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
