package drivertest

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
)

var dialing = map[string]func(*testing.T, *suite){
	"Dial reaches a listener on any address":   dialsAny,
	"Dial is refused while nothing listens":    dialsRefused,
	"Dial takes many connections at once":      dialsMany,
	"Dial gives up with its context":           dialGivesUp,
	"connections end with the instance":        endsConnections,
	"instances of one port are not in the way": sharesPort,
}

func contextWithCancel(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

func (s *suite) dial(t testing.TB, id core.InstanceID, port int) net.Conn {
	t.Helper()
	c, err := s.Driver.Dial(Context(t), id, port)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func dialsAny(t *testing.T, s *suite) {
	for _, test := range []struct {
		address string
		network core.Network
	}{
		{"127.0.0.1:PORT", core.NetworkEgress},
		{"127.0.0.1:PORT", core.NetworkNone},
		{":PORT", core.NetworkEgress},
		{":PORT", core.NetworkNone},
		{"0.0.0.0:PORT", core.NetworkEgress},
		{"eth0:PORT", core.NetworkEgress},
		{"[::1]:PORT", core.NetworkEgress},
		{"[::1]:PORT", core.NetworkNone},
	} {
		if !slices.Contains(s.networks(), test.network) {
			continue // it is refused, as the suite has asked for
		}
		t.Run(test.address+" with network "+string(test.network), func(t *testing.T) {
			t.Parallel()
			spec := Spec(s.base, "serve", test.address)
			spec.Network, spec.Env = test.network, []string{"PORT=8099"}
			p := Start(t, s.Driver, spec, nil)
			p.Out.Await(t, "listening")
			if got := Get(t, s.dial(t, p.ID, 8099), "/"); got != "hello" {
				t.Errorf("it answers %q", got)
			}
		})
	}
}

func dialsRefused(t *testing.T, s *suite) {
	for _, network := range s.networks() {
		spec := Spec(s.base, "serve", "127.0.0.1:8080", "after", "50ms")
		spec.Network = network
		p := Start(t, s.Driver, spec, nil)
		var c net.Conn
		Eventually(t, "it listens", func() (done bool) {
			var err error
			if c, err = s.Driver.Dial(Context(t), p.ID, 8080); err == nil {
				return true
			}
			if !errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, core.ErrGone) {
				t.Fatalf("while nothing listens the error is %v", err)
			}
			return false
		})
		if got := Get(t, c, "/"); got != "hello" {
			t.Errorf("it answers %q", got)
		}
		_ = c.Close()
	}
}

func dialsMany(t *testing.T, s *suite) {
	p := s.start(t, "serve", ":8080")
	p.Out.Await(t, "listening")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 5 {
				c, err := s.Driver.Dial(Context(t), p.ID, 8080)
				if err != nil {
					t.Errorf("dial: %v", err)
					return
				}
				if _, ok := c.(syscall.Conn); !ok {
					t.Errorf("the connection is a %T, which cannot be looked at", c)
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
}

func dialGivesUp(t *testing.T, s *suite) {
	p := s.start(t, "serve", ":8080")
	p.Out.Await(t, "listening")
	ctx, cancel := contextWithCancel(t)
	cancel()
	if c, err := s.Driver.Dial(ctx, p.ID, 8080); err == nil {
		_ = c.Close() // it was faster
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v, want that of the context", err)
	}
}

func endsConnections(t *testing.T, s *suite) {
	p := s.start(t, "serve", ":8080")
	p.Out.Await(t, "listening")
	c := s.dial(t, p.ID, 8080)
	p.Stop(0)
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("after the end %d bytes come", n)
	}
}

func sharesPort(t *testing.T, s *suite) {
	first, second := s.start(t, "serve", ":8080"), s.start(t, "serve", ":8080")
	first.Out.Await(t, "listening")
	second.Out.Await(t, "listening")
	Get(t, s.dial(t, first.ID, 8080), "/print/first")
	Get(t, s.dial(t, second.ID, 8080), "/print/second")
	first.Out.Await(t, "first")
	second.Out.Await(t, "second")
	if strings.Contains(first.Out.String(), "second") || strings.Contains(second.Out.String(), "first") {
		t.Error("one was dialed for the other")
	}
}
