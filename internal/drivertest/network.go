package drivertest

import (
	"slices"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
)

var networking = map[string]func(*testing.T, *suite){
	"network none has loopback and no way out":     hasNoWayOut,
	"an instance's own name and localhost resolve": knowsItself,
}

// leaving is for drivers that have the network egress, confined for others.
var leaving = map[string]func(*testing.T, *suite){
	"egress reaches other machines":            reachesOutside,
	"egress resolves names":                    resolves,
	"egress reaches neither host nor metadata": staysOut,
	"egress reaches no other instance":         staysApart,
	"many instances at once have the network":  leavesAtOnce,
}

var confined = map[string]func(*testing.T, *suite){
	"egress that cannot be had is refused": func(t *testing.T, s *suite) {
		s.missing(t, "network")
		if _, err := s.Driver.Start(Context(t), s.egress("exit", "0"), core.Stdio{}); !core.IsKind(err, core.KindNotImplemented) {
			t.Errorf("the error is %v", err)
		}
	},
}

// leavesAtOnce has several instances go the same way at the same time.
func leavesAtOnce(t *testing.T, s *suite) {
	var all []*Process
	for range 8 {
		all = append(all, Start(t, s.Driver, s.egress("dial", s.World.Outside), nil))
	}
	for _, p := range all {
		got := map[string]string{}
		p.JSON(&got)
		if got[s.World.Outside] != "mayfly" {
			t.Errorf("%s answers %q", s.World.Outside, got[s.World.Outside])
		}
	}
}

func (s *suite) egress(args ...string) core.InstanceSpec {
	spec := Spec(s.base, args...)
	spec.Network = core.NetworkEgress
	return spec
}

func (s *suite) dialFrom(t *testing.T, spec core.InstanceSpec) map[string]string {
	t.Helper()
	got := map[string]string{}
	Start(t, s.Driver, spec, nil).JSON(&got)
	return got
}

func reachesOutside(t *testing.T, s *suite) {
	if got := s.dialFrom(t, s.egress("dial", s.World.Outside))[s.World.Outside]; got != "mayfly" {
		t.Errorf("%s answers %q", s.World.Outside, got)
	}
}

func resolves(t *testing.T, s *suite) {
	var got []string
	Start(t, s.Driver, s.egress("lookup", s.World.Name), nil).JSON(&got)
	if !slices.Equal(got, []string{s.World.Address}) {
		t.Errorf("%s has the addresses %q, want %s", s.World.Name, got, s.World.Address)
	}
}

func staysOut(t *testing.T, s *suite) {
	if len(s.World.Forbidden) == 0 {
		t.Fatal("the harness names nothing that is forbidden")
	}
	args := []string{"dial"}
	for _, to := range s.World.Forbidden {
		args = append(args, to)
	}
	got := s.dialFrom(t, s.egress(args...))
	for what, to := range s.World.Forbidden {
		if !strings.HasPrefix(got[to], "error: ") {
			t.Errorf("%s at %s answers %q", what, to, got[to])
		}
	}
}

func staysApart(t *testing.T, s *suite) {
	p := Start(t, s.Driver, s.egress("serve", "eth0:8080"), nil)
	p.Out.Await(t, "\n")
	address := strings.TrimPrefix(strings.TrimSpace(p.Out.String()), "listening on ")
	if got := Get(t, s.dial(t, p.ID, 8080), "/"); got != "hello" {
		t.Fatalf("it answers %q", got)
	}
	if answer := s.dialFrom(t, s.egress("dial", address))[address]; !strings.HasPrefix(answer, "error: ") {
		t.Errorf("its sibling at %s answers %q", address, answer)
	}
}

func hasNoWayOut(t *testing.T, s *suite) {
	f := s.facts(t, Spec(s.base, "facts"))
	if !slices.Contains(f.Addresses, "127.0.0.1/8") || len(f.Addresses) > 2 {
		t.Errorf("its addresses are %q, want those of loopback", f.Addresses)
	}
	args := []string{"dial", s.World.Outside}
	for _, to := range s.World.Forbidden {
		args = append(args, to)
	}
	for to, answer := range s.dialFrom(t, Spec(s.base, args...)) {
		if !strings.HasPrefix(answer, "error: ") {
			t.Errorf("%s answers %q", to, answer)
		}
	}
}

func knowsItself(t *testing.T, s *suite) {
	for _, network := range s.networks() {
		for _, name := range []string{"localhost", "misbehave"} {
			spec := Spec(s.base, "lookup", name)
			spec.Network = network
			var got []string
			Start(t, s.Driver, spec, nil).JSON(&got)
			if len(got) == 0 {
				t.Errorf("with network %s the name %s has no address", network, name)
			}
		}
	}
}
