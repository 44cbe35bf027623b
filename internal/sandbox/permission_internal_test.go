package sandbox

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLackingNamesTheCapability(t *testing.T) {
	t.Parallel()
	all := ^uint64(0)
	if missing := lacking(all); len(missing) > 0 {
		t.Errorf("all capabilities: %v", missing)
	}
	for _, c := range needed {
		missing := lacking(all &^ (1 << c.number))
		if len(missing) != 1 || !strings.Contains(missing[0], c.name) {
			t.Errorf("without %s: %v", c.name, missing)
		}
	}
	if missing := strings.Join(lacking(1<<unix.CAP_SYS_ADMIN), " "); missing == "" || strings.Contains(missing, "CAP_SYS_ADMIN") {
		t.Errorf("with CAP_SYS_ADMIN alone: %v", missing)
	}
}
