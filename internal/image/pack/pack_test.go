package pack_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image"
	"github.com/dayfly-io/dayfly/internal/image/pack"
)

func file(path, body string, mode fs.FileMode) pack.File {
	return pack.File{Path: path, Mode: mode, Open: func() (io.ReadCloser, int64, error) {
		return io.NopCloser(strings.NewReader(body)), int64(len(body)), nil
	}}
}

func sample(zip bool) pack.Image {
	return pack.Image{
		Name: "shop/hello:2", Gzip: zip,
		Files: []pack.File{
			file("/app/server", "binary", fs.ModeSetuid|0o755), file("app.txt", "note", 0o600), file("app/data/x", "", 0o644),
			{Path: "tmp/", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
			{Path: "bin", Mode: fs.ModeSymlink | 0o777, Link: "app"},
		},
		Config: core.ImageConfig{Entrypoint: []string{"/app/server"}, Cmd: []string{"-v"}, Env: []string{"A=b"}, WorkingDir: "/app", User: "65534:65534", StopSignal: "SIGINT"},
	}
}

func write(t *testing.T, img pack.Image) (data []byte, digest string) {
	t.Helper()
	var b bytes.Buffer
	digest, err := pack.Write(&b, img)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), digest
}

func TestWriteLoads(t *testing.T) {
	t.Parallel()
	for _, zip := range []bool{false, true} {
		s, err := image.Open(t.Context(), t.TempDir(), image.Options{})
		if err != nil {
			t.Fatal(err)
		}
		data, digest := write(t, sample(zip))
		got, err := s.Load(t.Context(), bytes.NewReader(data))
		if err != nil || len(got) != 1 || got[0].Digest != digest || !slices.Equal(got[0].Names, []string{"shop/hello:2"}) {
			t.Fatalf("got %+v, %v", got, err)
		}
		c, want := got[0].Config, sample(zip).Config
		if !slices.Equal(c.Process(nil, nil), want.Process(nil, nil)) || c.Env[0] != "A=b" || c.User != want.User || c.WorkingDir != want.WorkingDir || c.StopSignal != want.StopSignal {
			t.Fatalf("config %+v", c)
		}
		r, err := s.Rootfs(t.Context(), digest)
		if err != nil || len(r.Layers) != 1 {
			t.Fatalf("rootfs %+v, %v", r, err)
		}
		for name, mode := range map[string]fs.FileMode{
			"app": fs.ModeDir | 0o755, "app/server": fs.ModeSetuid | 0o755, "app.txt": 0o600, "app/data": fs.ModeDir | 0o755,
			"app/data/x": 0o644, "tmp": fs.ModeDir | fs.ModeSticky | 0o777, "bin": fs.ModeSymlink | 0o777,
		} {
			info, err := os.Lstat(filepath.Join(r.Layers[0], name))
			if err != nil || info.Mode() != mode || info.ModTime().Unix() != 0 || info.Sys().(*syscall.Stat_t).Uid != 0 {
				t.Errorf("%s: %v, %v", name, info, err)
			}
		}
		if body, err := os.ReadFile(filepath.Join(r.Layers[0], "bin/server")); err != nil || string(body) != "binary" {
			t.Errorf("the server is %q, %v", body, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWriteIsReproducible(t *testing.T) {
	t.Parallel()
	for _, zip := range []bool{false, true} {
		img := sample(zip)
		one, digest := write(t, img)
		slices.Reverse(img.Files)
		two, again := write(t, img)
		if digest != again || !bytes.Equal(one, two) {
			t.Errorf("gzip %v: %s and %s", zip, digest, again)
		}
		img.Files[0] = file("app/other", "x", 0o644)
		if _, other := write(t, img); other == digest {
			t.Error("other files, same digest")
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	errOpen := errors.New("cannot open")
	for name, c := range map[string]struct {
		img  pack.Image
		want func(error) bool
	}{
		"twice":        {pack.Image{Files: []pack.File{file("a", "", 0o644), file("/a", "", 0o644)}}, invalid},
		"dotdot":       {pack.Image{Files: []pack.File{file("../a", "", 0o644)}}, invalid},
		"root":         {pack.Image{Files: []pack.File{file("/", "", 0o644)}}, invalid},
		"below a file": {pack.Image{Files: []pack.File{file("a", "", 0o644), file("a/b", "", 0o644)}}, invalid},
		"no contents":  {pack.Image{Files: []pack.File{{Path: "a"}}}, invalid},
		"a socket":     {pack.Image{Files: []pack.File{{Path: "a", Mode: fs.ModeSocket}}}, invalid},
		"name":         {pack.Image{Name: "No Name"}, invalid},
		"open": {
			pack.Image{Files: []pack.File{{Path: "a", Open: func() (io.ReadCloser, int64, error) { return nil, 0, errOpen }}}},
			func(err error) bool { return errors.Is(err, errOpen) },
		},
		"short": {
			pack.Image{Files: []pack.File{{Path: "a", Open: func() (io.ReadCloser, int64, error) { return io.NopCloser(strings.NewReader("x")), 2, nil }}}},
			func(err error) bool { return err != nil && strings.Contains(err.Error(), "fewer than 2 bytes") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := pack.Write(io.Discard, c.img); !c.want(err) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func invalid(err error) bool { return core.IsKind(err, core.KindInvalid) }
