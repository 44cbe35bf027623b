package image_test

import (
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image"
)

// Layers that were unpacked for other ids are refused; without any a store may
// change hands.
func TestLayersOfOtherOwnersAreRefused(t *testing.T) {
	t.Parallel()
	_, dir := open(t, image.Options{})
	reopen := func(o image.Owners) (*image.Store, error) {
		return image.Open(t.Context(), dir, image.Options{Owners: o})
	}
	plain := image.Owners{First: 1, Count: 65536}
	for _, o := range []image.Owners{plain, {}, plain, {First: 0, Count: 1}, plain} {
		s, err := reopen(o)
		if err != nil {
			t.Fatalf("an empty store for %+v: %v", o, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := reopen(plain)
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, simple(t, "one", plainLayer(t, entry{name: "1"})))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, o := range []image.Owners{{}, {First: 0, Count: 1}} {
		if _, err := reopen(o); !core.IsKind(err, core.KindConflict) {
			t.Errorf("the layers of %+v for %+v: %v", plain, o, err)
		}
	}
	if s, err = reopen(plain); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Image(t.Context(), "one"); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
