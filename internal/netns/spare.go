package netns

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Spares are sockets inside one namespace that met nobody who listens. They
// can be tried again: who waits for a listener asks some fifty times, and
// what is dear in that is not to connect but to step inside for a socket. The
// zero value has none.
type Spares struct {
	mu     sync.Mutex
	fds    map[int]int // by family
	closed bool
}

func (s *Spares) take(family int) (fd int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fd, ok = s.fds[family]
	delete(s.fds, family)
	return fd, ok
}

// keep takes over a socket. There is one of each family.
func (s *Spares) keep(family, fd int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, full := s.fds[family]; full || s.closed {
		_ = unix.Close(fd)
		return
	}
	if s.fds == nil {
		s.fds = map[int]int{}
	}
	s.fds[family] = fd
}

// drop closes what there is: somebody listens.
func (s *Spares) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for family, fd := range s.fds {
		_ = unix.Close(fd)
		delete(s.fds, family)
	}
}

// Close closes what there is and keeps no more: a socket keeps its namespace
// alive.
func (s *Spares) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.drop()
}
