package lifecycle_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/dayfly-io/dayfly/internal/lifecycle"
)

func TestStopGoesBackwardsAndReportsAll(t *testing.T) {
	t.Parallel()
	var s lifecycle.Stack
	var order []string
	broken := errors.New("broken")
	for _, name := range []string{"store", "driver", "listener"} {
		s.Push(name, func() error {
			order = append(order, name)
			if name == "driver" {
				return broken
			}
			return nil
		})
	}
	err := s.Stop()
	if want := []string{"listener", "driver", "store"}; !slices.Equal(order, want) {
		t.Errorf("stopped %v, want %v", order, want)
	}
	if !errors.Is(err, broken) || err.Error() != "stop driver: broken" {
		t.Errorf("error %v", err)
	}
	if err := s.Stop(); err != nil || len(order) != 3 {
		t.Errorf("a second Stop stopped again: %v, %v", order, err)
	}
}
