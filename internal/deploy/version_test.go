package deploy_test

import (
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
)

func TestRollback(t *testing.T) {
	t.Parallel()
	s, images, c := service()
	save := func(image string, change func(*core.NewVersion)) core.Definition {
		t.Helper()
		n := version(image)
		n.Description = "of " + image
		if change != nil {
			change(&n)
		}
		d, err := s.Save(t.Context(), someone, n)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	back := func(to int) (core.Definition, error) {
		return s.Rollback(t.Context(), core.Principal{Name: "rescuer"}, core.Rollback{App: "shop", Function: "resize", To: to})
	}
	if _, err := back(0); !core.IsKind(err, core.KindNotFound) {
		t.Errorf("rolling back what is not there gives %v", err)
	}
	first := save("web", nil)
	if _, err := back(0); !core.IsKind(err, core.KindConflict) {
		t.Errorf("rolling back the first version gives %v", err)
	}
	// The name means another image by the time of the rollback.
	images["web"] = core.Image{Digest: "sha256:9", Config: images["web"].Config}
	images["sha256:1"] = core.Image{Digest: "sha256:1"}
	images["sha256:2"] = core.Image{Digest: "sha256:2"}
	save("cmd", nil)
	third := save("cmd", func(n *core.NewVersion) { n.Spec.Memory = core.GiB })
	told := c.times
	d, err := back(1)
	if err != nil {
		t.Fatal(err)
	}
	v := d.Version
	if v.Number != 4 || v.Restores != 1 || v.Digest != "sha256:1" || !v.Spec.Equal(first.Version.Spec) || v.CreatedBy != "rescuer" || c.times != told+1 {
		t.Errorf("rolled back to the first, the version is %+v, the catalog was told %d times", v, c.times-told)
	}
	if d.Function.Description != third.Function.Description {
		t.Errorf("the rollback changed the description to %q", d.Function.Description)
	}
	if again, err := back(4); err != nil || again.Version.Number != 4 {
		t.Errorf("rolling back to what is called gives %+v, %v", again.Version, err)
	}
	if _, err := back(0); !core.IsKind(err, core.KindConflict) {
		t.Errorf("there is none before the first, and it gives %v", err)
	}
	if d, err := back(3); err != nil || d.Version.Number != 5 || d.Version.Restores != 3 {
		t.Fatalf("rolling forward gives %+v, %v", d.Version, err)
	}
	// The version before what is called is that before the one rolled back to.
	if d, err := back(0); err != nil || d.Version.Number != 6 || d.Version.Restores != 2 {
		t.Errorf("the one before the third gives %+v, %v", d.Version, err)
	}
	// A rollback to a rollback names the version they both come from.
	if d, err := back(5); err != nil || d.Version.Restores != 3 {
		t.Errorf("rolling back to a rollback gives %+v, %v", d.Version, err)
	}
	if _, err := s.Rollback(t.Context(), someone, core.Rollback{App: "shop", Function: "resize", To: 1, IfMatch: first.Function.ETag()}); !core.IsKind(err, core.KindConflict) {
		t.Errorf("a rollback of what has changed gives %v", err)
	}
	for _, to := range []int{-1, 99} {
		if _, err := back(to); err == nil {
			t.Errorf("a rollback to version %d goes through", to)
		}
	}
	delete(images, "sha256:1")
	if _, err := back(1); core.AsError(err).Code != core.ReasonImageNotFound {
		t.Errorf("without its image, the rollback gives %v", err)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	s, _, _ := service()
	for _, image := range []string{"web", "cmd"} {
		if _, err := s.Save(t.Context(), someone, version(image)); err != nil {
			t.Fatal(err)
		}
	}
	list, next, err := s.Versions(t.Context(), someone, "shop", "resize", core.Page{})
	if err != nil || next != "" || len(list) != 2 || list[0].Number != 2 || list[1].Digest != "sha256:1" {
		t.Errorf("the versions are %+v, %q, %v", list, next, err)
	}
	if d, err := s.Version(t.Context(), someone, "shop", "resize", 1); err != nil || d.Version.Number != 1 || d.Function.Version != 2 {
		t.Errorf("the first is %+v, %v", d, err)
	}
	if _, err := s.Version(t.Context(), someone, "shop", "resize", 0); !core.IsKind(err, core.KindInvalid) {
		t.Errorf("version 0 gives %v", err)
	}
}
