package network

import (
	"slices"
	"testing"
)

func TestMerge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want []span }{
		{nil, nil},
		{[]span{{5, 5}, {1, 2}}, []span{{1, 2}, {5, 5}}},
		{[]span{{1, 9}, {3, 4}, {10, 12}}, []span{{1, 12}}},
		{[]span{{7, 7}, {7, 7}, {9, 9}}, []span{{7, 7}, {9, 9}}},
		{[]span{{lastUnicast, lastUnicast + 5}, {lastUnicast + 1, 1<<32 - 1}}, []span{{lastUnicast, lastUnicast}}},
	} {
		if got := merge(slices.Clone(c.in)); !slices.Equal(got, c.want) {
			t.Errorf("%v is merged to %v, want %v", c.in, got, c.want)
		}
	}
}
