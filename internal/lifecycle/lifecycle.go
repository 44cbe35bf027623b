// Package lifecycle stops what was started, in the opposite order.
package lifecycle

import (
	"errors"
	"fmt"
	"slices"
)

// Stack is what has been started so far. Its zero value is empty. It is used
// by one goroutine.
type Stack struct {
	parts []part
}

type part struct {
	name string
	stop func() error
}

// Push adds a part that has been started and says how it is stopped.
func (s *Stack) Push(name string, stop func() error) {
	s.parts = append(s.parts, part{name, stop})
}

// Stop stops every part, the last one first, and gives all errors. A part
// stops once.
func (s *Stack) Stop() error {
	var errs []error
	for _, p := range slices.Backward(s.parts) {
		if err := p.stop(); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", p.name, err))
		}
	}
	s.parts = nil
	return errors.Join(errs...)
}
