package client_test

import (
	"testing"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/client"
)

func TestVersions(t *testing.T) {
	t.Parallel()
	c := start(t, &backend{}, nil)
	l, err := c.Versions(t.Context(), "shop", "resize", client.Page{Cursor: "and"})
	if err != nil || len(l.Items) != 2 || l.Items[0].Version != 3 || l.Items[0].Restores != 1 || l.NextCursor != "andmore" {
		t.Errorf("versions: %+v, %v", l, err)
	}
	if v, err := c.Version(t.Context(), "shop", "resize", 2); err != nil || v.Version != 2 || v.Digest != "sha256:abc" {
		t.Errorf("version 2: %+v, %v", v, err)
	}
	if _, err := c.Version(t.Context(), "shop", "resize", 9); !client.IsCode(err, api.CodeNotFound) {
		t.Errorf("version 9: %v", err)
	}
	if f, err := c.Rollback(t.Context(), "shop", "resize", 2, `"new"`); err != nil || f.Version != 4 {
		t.Errorf("rolled back: %+v, %v", f, err)
	}
	if _, err := c.Rollback(t.Context(), "shop", "resize", 0, `"old"`); !client.IsCode(err, api.CodeConflict) {
		t.Errorf("rolled back from what has changed: %v", err)
	}
}
