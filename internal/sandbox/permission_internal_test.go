package sandbox

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLackingNamesTheCapability(t *testing.T) {
	t.Parallel()
	all := ^uint64(0)
	if err := lacking(all); err != nil {
		t.Errorf("all capabilities: %v", err)
	}
	for _, c := range needed {
		err := lacking(all &^ (1 << c.number))
		if err == nil || !strings.Contains(err.Error(), c.name) {
			t.Errorf("without %s: %v", c.name, err)
		}
	}
	if err := lacking(1 << unix.CAP_SYS_ADMIN); err == nil || strings.Contains(err.Error(), "CAP_SYS_ADMIN") {
		t.Errorf("with CAP_SYS_ADMIN alone: %v", err)
	}
}
