package network

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestListedAsksAgainWhenInterrupted(t *testing.T) {
	t.Parallel()
	asked := 0
	got, err := listed(func() ([]int, error) {
		if asked++; asked < 3 {
			return []int{1}, netlink.ErrDumpInterrupted
		}
		return []int{1, 2}, nil
	})
	if err != nil || len(got) != 2 || asked != 3 {
		t.Errorf("got %v, %v after %d tries", got, err, asked)
	}
	broken := errors.New("broken")
	asked = 0
	if _, err := listed(func() ([]int, error) { asked++; return nil, broken }); !errors.Is(err, broken) || asked != 1 {
		t.Errorf("another error is %v after %d tries", err, asked)
	}
	if _, err := listed(func() ([]int, error) { return nil, netlink.ErrDumpInterrupted }); !errors.Is(err, netlink.ErrDumpInterrupted) {
		t.Errorf("interrupted for ever gives %v", err)
	}
}
