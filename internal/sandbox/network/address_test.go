package network //nolint:testpackage // it tests the inside

import (
	"net/netip"
	"strconv"
	"testing"
)

func TestChooseRange(t *testing.T) {
	t.Parallel()
	hold := func(prefixes ...string) []holding {
		var all []holding
		for _, p := range prefixes {
			all = append(all, holding{netip.MustParsePrefix(p), "test"})
		}
		return all
	}
	for _, c := range []struct {
		name, wanted string
		held         []holding
		want         string // empty: an error
	}{
		{"free", "", nil, "100.64.0.0/16"},
		{"default routes do not count", "", hold("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"), "100.64.0.0/16"},
		{"first is taken", "", hold("100.64.3.0/24"), "100.65.0.0/16"},
		{"block is taken", "", hold("100.64.0.0/10"), "10.200.0.0/16"},
		{"one address in it", "", hold("100.64.0.0/10", "10.200.7.1/32"), "10.201.0.0/16"},
		{"ten is taken", "", hold("100.64.0.0/10", "10.0.0.0/8"), "172.16.0.0/16"},
		{"all is taken", "", hold("100.64.0.0/10", "10.0.0.0/8", "172.16.0.0/12"), ""},
		{"wanted", "192.168.77.5/24", nil, "192.168.77.0/24"},
		{"wanted but taken", "192.168.77.0/24", hold("192.168.0.0/16"), ""},
		{"too small", "192.168.77.0/30", nil, ""},
		{"too big", "10.0.0.0/9", nil, ""},
		{"not IPv4", "fd00::/64", nil, ""},
	} {
		var wanted netip.Prefix
		if c.wanted != "" {
			wanted = netip.MustParsePrefix(c.wanted)
		}
		got, err := chooseRange(wanted, c.held)
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%s: %s, want an error", c.name, got)
		case c.want != "" && (err != nil || got.String() != c.want):
			t.Errorf("%s: %s, %v; want %s", c.name, got, err, c.want)
		}
	}
}

func TestNamesFit(t *testing.T) {
	t.Parallel()
	const most = 15 // bytes of a link name
	longest := "8__bytes"
	if !validName.MatchString(longest) {
		t.Fatalf("%s is no valid name", longest)
	}
	n := &Network{addresses: netip.MustParsePrefix("10.0.0.0/14")}
	last := portPrefix(longest) + strconv.Itoa(n.Slots()-1) + "z"
	for _, name := range []string{bridgeName(longest, (firstSlot+n.Slots())>>(32-bridgeBits)), last} {
		if len(name) > most {
			t.Errorf("link name %s has %d bytes", name, len(name))
		}
	}
}
