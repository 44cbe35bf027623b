package pool

import (
	"errors"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Meet has a caller find the definition's line before between, and come to it
// afterwards; it reports whether the caller is sent to look for the line again.
func (p *Pool) Meet(def *core.Definition, between func()) bool {
	l := p.line(def)
	between()
	_, err := l.enter()
	return errors.Is(err, errLeft)
}

// Lines gives the number of lines there are.
func (p *Pool) Lines() (n int) {
	p.each(func(*line) { n++ })
	return n
}
