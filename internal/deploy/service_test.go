package deploy_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/deploy"
	"github.com/dayfly-io/dayfly/internal/memory"
	"github.com/dayfly-io/dayfly/internal/sequence"
)

// images are images by name.
type images map[string]core.Image

func (i images) Load(_ context.Context, tar io.Reader) ([]core.Image, error) {
	text, err := io.ReadAll(tar)
	if string(text) != "tar" {
		return nil, errors.Join(err, core.Invalid("it is no tar"))
	}
	return []core.Image{i["web"]}, nil
}

func (i images) Image(_ context.Context, ref string) (core.Image, error) {
	if image, ok := i[ref]; ok {
		return image, nil
	}
	return core.Image{}, core.Errorf(core.KindNotFound, core.ReasonImageNotFound, "there is no image %s", ref)
}

func (i images) Images(context.Context) ([]core.Image, error) { return []core.Image{i["web"]}, nil }

func (i images) Resolve(_ context.Context, ref string) (string, error) {
	return "", core.Errorf(core.KindNotFound, core.ReasonImageNotFound, "there is no image %s", ref)
}

func (i images) Pull(context.Context, string, func(core.PullProgress)) (core.Image, error) {
	return core.Image{}, errors.New("not expected")
}

func (i images) Remove(context.Context, string) error { return nil }

func (i images) Prune(context.Context, core.ImageLimits, func(core.Image) bool) (core.Pruned, error) {
	return core.Pruned{}, nil
}

// catalog counts how often it is told to look.
type catalog struct {
	times int
	fails error
}

func (c *catalog) Refresh(context.Context) error {
	c.times++
	return c.fails
}

var (
	someone = core.Principal{Name: "someone"}
	at      = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

func service() (*deploy.Service, images, *catalog) {
	i := images{
		"web":   {Digest: "sha256:1", Config: core.ImageConfig{Entrypoint: []string{"/web"}}},
		"cmd":   {Digest: "sha256:2", Config: core.ImageConfig{Cmd: []string{"/cmd"}}},
		"empty": {Digest: "sha256:3"},
	}
	c := &catalog{}
	can := core.Capabilities{
		Driver: "sandbox", Networks: []core.Network{core.NetworkNone, core.NetworkEgress}, Sockets: true,
	}
	return with(can, i, c), i, c
}

func with(can core.Capabilities, i images, c *catalog) *deploy.Service {
	clock := func() time.Time { return at }
	return deploy.New(context.Background(), deploy.Config{
		Store: memory.New(), Images: i, Catalog: c, Capabilities: can, IDs: sequence.New(0, clock), Now: clock,
	})
}

func version(image string) core.NewVersion {
	return core.NewVersion{App: "shop", Function: "resize", Spec: core.Spec{Image: image}}
}

func TestSave(t *testing.T) {
	t.Parallel()
	s, images, c := service()
	def, err := s.Save(t.Context(), someone, version("web"))
	if err != nil {
		t.Fatal(err)
	}
	v := def.Version
	if v.Number != 1 || v.Digest != "sha256:1" || v.CreatedBy != "someone" || !v.CreatedAt.Equal(at) || !v.Spec.Equal(core.Spec{Image: "web"}.WithDefaults()) {
		t.Errorf("the version is %+v", v)
	}
	if def.App.ID == 0 || def.Function.ID == 0 || int64(def.App.ID) == int64(def.Function.ID) || c.times != 1 {
		t.Errorf("the ids are %s and %s, the catalog was told %d times", def.App.ID, def.Function.ID, c.times)
	}
	if again, err := s.Save(t.Context(), someone, version("web")); err != nil || again.Version.Number != 1 {
		t.Errorf("the same again is version %d, %v", again.Version.Number, err)
	}
	images["web"] = core.Image{Digest: "sha256:9", Config: images["web"].Config} // the name means another image now
	if got, err := s.Function(t.Context(), someone, "shop", "resize"); err != nil || got.Version.Digest != "sha256:1" {
		t.Errorf("the function has %s, %v: an image stays what it was", got.Version.Digest, err)
	}
	if again, err := s.Save(t.Context(), someone, version("web")); err != nil || again.Version.Number != 2 || again.Version.Digest != "sha256:9" {
		t.Errorf("after that it is %+v, %v", again.Version, err)
	}
}

func TestSaveRefuses(t *testing.T) {
	t.Parallel()
	job := func(n *core.NewVersion) { n.Spec.Contract, n.Spec.Args = core.ContractJob, core.ArgsBody }
	for _, tc := range []struct {
		name, image string
		change      func(*core.NewVersion)
		kind        core.Kind
		code        core.Code
		text        string
	}{
		{"name", "web", func(n *core.NewVersion) { n.Function = "a b" }, core.KindInvalid, core.CodeInvalid, "function"},
		{"spec", "web", func(n *core.NewVersion) { n.Spec.Memory = 1 }, core.KindInvalid, core.CodeInvalid, "memory"},
		{"no image", "other", nil, core.KindNotFound, core.ReasonImageNotFound, "there is no image other"},
		{"no entrypoint", "empty", nil, core.KindInvalid, core.ReasonImageUnsupported, "empty has neither entrypoint nor cmd: set command"},
		{"no entrypoint for the body", "empty", job, core.KindInvalid, core.ReasonImageUnsupported, "no entrypoint"},
		{"only a cmd for the body", "cmd", job, core.KindInvalid, core.ReasonImageUnsupported, "no entrypoint"},
		{"cmd", "cmd", nil, "", "", ""},
		{"entrypoint for the body", "web", job, "", "", ""},
		{"command", "empty", func(n *core.NewVersion) { n.Spec.Command = []string{"/x"} }, "", "", ""},
		{"command for the body", "cmd", func(n *core.NewVersion) { job(n); n.Spec.Command = []string{"/x"} }, "", "", ""},
		{"must exist", "web", func(n *core.NewVersion) { n.IfMatch = "*" }, core.KindNotFound, core.CodeNotFound, "shop"},
	} {
		s, _, c := service()
		n := version(tc.image)
		if tc.change != nil {
			tc.change(&n)
		}
		_, err := s.Save(t.Context(), someone, n)
		if tc.kind == "" {
			if err != nil || c.times != 1 {
				t.Errorf("%s: got %v", tc.name, err)
			}
			continue
		}
		if e := core.AsError(err); e.Kind != tc.kind || e.Code != tc.code || !strings.Contains(e.Message, tc.text) || c.times != 0 {
			t.Errorf("%s: got %v (%s %s)", tc.name, err, e.Kind, e.Code)
		}
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	s, _, _ := service()
	def, err := s.Save(t.Context(), someone, version("web"))
	if err != nil {
		t.Fatal(err)
	}
	n := version("cmd")
	n.Create = true
	if _, err := s.Save(t.Context(), someone, n); !core.IsKind(err, core.KindConflict) {
		t.Errorf("made twice: %v", err)
	}
	n.Create, n.IfMatch = false, `"other"`
	if _, err := s.Save(t.Context(), someone, n); !core.IsKind(err, core.KindConflict) {
		t.Errorf("changed meanwhile: %v", err)
	}
	if err := s.Delete(t.Context(), someone, "shop", "resize", `"other"`); !core.IsKind(err, core.KindConflict) {
		t.Errorf("deleted after a change: %v", err)
	}
	n.IfMatch = def.Function.ETag()
	def, err = s.Save(t.Context(), someone, n)
	if err != nil || def.Version.Number != 2 {
		t.Errorf("got %+v, %v", def, err)
	}
	if err := s.Delete(t.Context(), someone, "shop", "resize", def.Function.ETag()); err != nil {
		t.Error(err)
	}
	if err := s.Delete(t.Context(), someone, "shop", "resize", ""); !core.IsKind(err, core.KindNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := s.Function(t.Context(), someone, "shop", "resize"); !core.IsKind(err, core.KindNotFound) {
		t.Errorf("after the deletion: %v", err)
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	s, _, c := service()
	if _, err := s.Save(t.Context(), someone, version("web")); err != nil {
		t.Fatal(err)
	}
	if list, next, err := s.Functions(t.Context(), someone, "", core.Page{}); err != nil || len(list) != 1 || next != "" {
		t.Errorf("got %v, %q, %v", list, next, err)
	}
	if list, next, err := s.Apps(t.Context(), someone, core.Page{}); err != nil || len(list) != 1 || next != "" || list[0].Name != "shop" {
		t.Errorf("got %v, %q, %v", list, next, err)
	}
	if list, err := s.Images(t.Context(), someone); err != nil || len(list) != 1 {
		t.Errorf("got %v, %v", list, err)
	}
	if list, err := s.LoadImages(t.Context(), someone, strings.NewReader("tar")); err != nil || len(list) != 1 {
		t.Errorf("got %v, %v", list, err)
	}
	if _, err := s.LoadImages(t.Context(), someone, strings.NewReader("zip")); !core.IsKind(err, core.KindInvalid) {
		t.Errorf("got %v", err)
	}
	c.fails = errors.New("boom")
	if def, err := s.Save(t.Context(), someone, version("cmd")); !errors.Is(err, c.fails) || def.Version.Number != 2 {
		t.Errorf("a change that is not taken over: %+v, %v", def, err)
	}
}

func TestSaveRefusesWhatTheDriverCannotDo(t *testing.T) {
	t.Parallel()
	_, i, c := service()
	s := with(core.Capabilities{
		Driver: "sandbox", Networks: []core.Network{core.NetworkNone},
		Missing: []core.Shortcoming{{Name: "network", Why: "pasta is not installed", Remedy: "install the package passt"}},
	}, i, c)
	_, err := s.Save(t.Context(), someone, version("web"))
	if !core.IsKind(err, core.KindNotImplemented) || !strings.Contains(err.Error(), "install the package passt") {
		t.Errorf("egress without a way out gives %v", err)
	}
	if c.times != 0 {
		t.Error("the catalog was told of a version that was refused")
	}
	alone := version("web")
	alone.Spec.Network = core.NetworkNone
	if _, err := s.Save(t.Context(), someone, alone); err != nil {
		t.Errorf("what it can do is refused: %v", err)
	}
}
