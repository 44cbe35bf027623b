package userns

import (
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestParseRanges(t *testing.T) {
	t.Parallel()
	const file = `# a comment
ada:100000:65536
1001:300000:1000
bob:165536:65536
ada:500000:10
ada:1:
ada:x:1
ada:1:0
ada:4294967290:10
:7:7
`
	for _, c := range []struct {
		name, id string
		want     []Range
	}{
		{"ada", "1000", []Range{{100000, 65536}, {500000, 10}}},
		{"eve", "1001", []Range{{300000, 1000}}},
		{"", "1001", []Range{{300000, 1000}}},
		{"", "7", nil}, // a line without a name is nobody's
		{"carl", "1002", nil},
	} {
		got, err := parseRanges(strings.NewReader(file), c.name, c.id)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s (%s) has %v (%v), want %v", c.name, c.id, got, err, c.want)
		}
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	got := strings.Join(arguments("newuidmap", 77, 1000, []Range{{100000, 65536}, {500000, 10}}), " ")
	if want := "newuidmap 77 0 1000 1 1 100000 65536 65537 500000 10"; got != want {
		t.Errorf("the arguments are %s, want %s", got, want)
	}
}

func TestContiguous(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint32{
		"         0          0 4294967295\n":                  1<<32 - 1,
		"0 1000 1\n":                                          1,
		"1 100000 65536\n0 1000 1\n":                          65537,
		"0 1000 1\n2 100000 65536\n":                          1, // a gap
		"0 1000 1\n1 100000 65536\n65537 500000 10\nnonsense": 65547,
		"": 0,
	} {
		if got := contiguous(text); got != want {
			t.Errorf("%q has %d ids, want %d", text, got, want)
		}
	}
}

func TestArrival(t *testing.T) {
	t.Parallel()
	if a := arrival(":0"); !a.Tried || a.Err != nil || a.Warning != "" {
		t.Errorf("a good way is told as %+v", a)
	}
	if a := arrival("newuidmap:1"); a.Err != nil || !strings.Contains(a.Warning, "newuidmap") {
		t.Errorf("a range that was refused is told as %+v", a)
	}
	if a := arrival("unshare:1"); a.Err == nil || !strings.Contains(a.Err.Error(), syscall.EPERM.Error()) {
		t.Errorf("a namespace that was refused is told as %+v", a)
	}
}

func TestToolsSayWhatTheyLack(t *testing.T) {
	t.Parallel()
	one := []Range{{100000, 65536}}
	for want, tools := range map[string]Tools{
		"":              {"/a", "/b", one, one},
		"not installed": {"/a", "", one, one},
		subUIDs:         {"/a", "/b", nil, one},
		subGIDs:         {"/a", "/b", one, nil},
	} {
		why, remedy := tools.Lack()
		if !strings.Contains(why, want) || (why == "") != (want == "") || (why == "") != (remedy == "") {
			t.Errorf("%+v lacks %q, remedy %q; want %q", tools, why, remedy, want)
		}
	}
}
