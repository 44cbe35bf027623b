package sandbox_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/drivertest"
	"github.com/dayfly-io/dayfly/internal/image/pack"
)

// canary is a directory of the host that hostile images point at.
type canary struct {
	dir    string
	mounts string
}

func newCanary(t testing.TB) *canary {
	t.Helper()
	c := &canary{dir: filepath.Join(t.TempDir(), "host")}
	for _, name := range []string{"proc", "sys", "dev", "tmp", "etc", "run"} {
		if err := os.MkdirAll(filepath.Join(c.dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"resolv.conf", "hosts", "hostname", "null"} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte("the host's"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	c.mounts = hostMounts(t)
	return c
}

func hostMounts(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	// A plain user's driver has its network's namespace mounted while it opens.
	lines := slices.DeleteFunc(strings.SplitAfter(string(b), "\n"), func(l string) bool { return strings.Contains(l, " nsfs ") })
	b = []byte(strings.Join(lines, ""))
	return string(b)
}

// check fails the test if the host's mounts or the canary have changed.
func (c *canary) check(t testing.TB) {
	t.Helper()
	if now := hostMounts(t); now != c.mounts {
		t.Errorf("the host's mounts have changed from\n%s\nto\n%s", c.mounts, now)
	}
	var got []string
	err := filepath.WalkDir(c.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(c.dir, path)
		got = append(got, rel)
		if err == nil && e.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if string(data) != "the host's" {
				t.Errorf("%s was changed to %q", path, data)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if want := ". dev etc hostname hosts null proc resolv.conf run sys tmp"; strings.Join(got, " ") != want {
		t.Errorf("the host's directory has %q, want %q", got, want)
	}
}

func link(path, to string) pack.File { return pack.File{Path: path, Mode: fs.ModeSymlink, Link: to} }

// An image's own /proc, /sys, /dev, /tmp or /etc decides nothing about where
// mounts go: the function runs with real ones, and the host is left alone.
func TestHostileImages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := newCanary(t)
	up := strings.Repeat("../", 30)
	images := map[string][]pack.File{
		"all directories are files": {
			drivertest.File("proc", 0o755, nil), drivertest.File("sys", 0o755, nil), drivertest.File("dev", 0o755, nil),
			drivertest.File("tmp", 0o755, nil), drivertest.File("run", 0o755, nil),
		},
		"devices are files": {
			drivertest.File("dev/null", 0o666, []byte("a file")), drivertest.File("dev/pts/x", 0o666, nil), drivertest.File("dev/shm", 0o666, nil),
			link("dev/zero", c.dir+"/null"), link("dev/mqueue", c.dir),
		},
		"masks are links": {
			link("proc/kcore", c.dir+"/null"), link("proc/sys", c.dir), link("sys/firmware", c.dir), drivertest.File("proc/version", 0o644, []byte("a lie")),
		},
		"the root's own names": {
			link("root", c.dir), link("layer", c.dir), link("upper", c.dir), link("work2", c.dir),
		},
	}
	for name, to := range map[string]string{"the host": c.dir, "the root": "/", "above the root": up, "relative": up + c.dir[1:], "itself": "proc"} {
		images["directories are links to "+name] = []pack.File{
			link("proc", to+"/proc"), link("sys", to+"/sys"), link("dev", to+"/dev"), link("tmp", to+"/tmp"), link("run", to+"/run"),
		}
		images["directories are bare links to "+name] = []pack.File{
			link("proc", to), link("sys", to), link("dev", to), link("tmp", to), link("run", to),
		}
		images["files are links to "+name] = []pack.File{
			link("etc/resolv.conf", to+"/resolv.conf"), link("etc/hosts", to+"/hosts"), link("etc/hostname", to+"/hostname"), link("dev/null", to+"/null"),
		}
		images["etc is a link to "+name] = []pack.File{link("etc", to+"/etc")}
	}
	for name, files := range images {
		t.Run(name, func(t *testing.T) {
			img := pack.Image{Config: drivertest.Misbehave, Files: append(files, drivertest.File("misbehave", 0o755, drivertest.Program(t)))}
			spec := drivertest.Spec(f.load(t, drivertest.Tar(t, img)), "facts")
			spec.Network = f.widest()
			if name == "etc is a link to the root" || name == "etc is a link to above the root" {
				// It leads to itself: who its user is cannot be found out.
				_, err := f.driver.Start(t.Context(), spec, core.Stdio{})
				if told := core.AsError(err); told.Code != core.ReasonImageUnsupported || !strings.Contains(told.Message, "etc/passwd") {
					t.Errorf("the error is %v", err)
				}
				c.check(t)
				return
			}
			facts := f.facts(t, spec)
			c.check(t)
			checkReal(t, facts)
		})
	}
}

// checkReal fails unless the function has a /proc, /sys, /dev and /etc of ours.
func checkReal(t testing.TB, facts drivertest.Facts) {
	t.Helper()
	if facts.PID != 2 || facts.Status["Seccomp"] != "2" {
		t.Errorf("its /proc is not one: process %d, %q", facts.PID, facts.Status)
	}
	mounts := strings.Join(facts.Mounts, "\n")
	for _, want := range []string{" /proc ", " /sys ", " /dev ", " /tmp ", " /dev/null ", " /dev/pts ", " /dev/shm ", " /proc/keys "} {
		if !strings.Contains(mounts, want) {
			t.Errorf("nothing is mounted at%s", want)
		}
	}
	if len(facts.Resolv) != 1 || !strings.HasPrefix(facts.Resolv[0], "nameserver 100.") || facts.Hosts[0] != "127.0.0.1\tlocalhost" || facts.NameFile[0] != "misbehave" {
		t.Errorf("its files in /etc are %q, %q and %q", facts.Resolv, facts.Hosts, facts.NameFile)
	}
}

// member is an entry of a layer's tar: a link, a directory, or a small file.
type member struct{ name, link, body string }

// layered gives an image of layers, lowest first, as docker save writes it.
func layered(t testing.TB, layers ...[]byte) io.Reader {
	t.Helper()
	config := v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Entrypoint: []string{"/misbehave"}},
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	names := []string{}
	for i, data := range layers {
		sum := sha256.Sum256(data)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])})
		names = append(names, fmt.Sprintf("%d/layer.tar", i))
		add(t, w, names[i], data)
	}
	configData, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{"layered:latest"}, "Layers": names}})
	if err != nil {
		t.Fatal(err)
	}
	add(t, w, "config.json", configData)
	add(t, w, "manifest.json", manifest)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &out
}

func add(t testing.TB, w *tar.Writer, name string, data []byte) {
	t.Helper()
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
}

func layerOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o755, Typeflag: tar.TypeReg}
		switch {
		case m.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, m.link
		case strings.HasSuffix(m.name, "/"):
			h.Typeflag = tar.TypeDir
		default:
			add(t, w, m.name, []byte(m.body))
			continue
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// What one layer makes a link another cannot write through, nor can the mounts
// of the sandbox.
func TestLayersThatTurnDirectoriesIntoLinks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := newCanary(t)
	tar := layered(t,
		layerOf(t, member{name: "misbehave", body: string(drivertest.Program(t))}, member{name: "etc/"}, member{name: "etc/hosts", body: "lower"}),
		layerOf(t, member{name: "etc", link: c.dir}, member{name: "proc", link: c.dir + "/proc"}),
		layerOf(t, member{name: "etc/"}, member{name: "etc/hosts", body: "upper"}, member{name: "etc/resolv.conf", link: c.dir + "/resolv.conf"}),
		layerOf(t, member{name: "etc", link: c.dir}, member{name: "run", link: c.dir}, member{name: ".wh.dev"}),
	)
	spec := drivertest.Spec(f.load(t, tar), "facts")
	spec.Network = f.widest()
	facts := f.facts(t, spec)
	c.check(t)
	checkReal(t, facts)
}

func TestManyLayers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	layers := [][]byte{layerOf(t, member{name: "misbehave", body: string(drivertest.Program(t))}, member{name: "layers/"}, member{name: "top-0", body: "x"})}
	for i := 1; i < 127; i++ {
		layers = append(layers, layerOf(t, member{name: fmt.Sprintf("layers/%d", i), body: "x"}, member{name: fmt.Sprintf(".wh.top-%d", i-1)}, member{name: fmt.Sprintf("top-%d", i), body: "x"}))
	}
	for _, n := range []int{100, 127} {
		spec := drivertest.Spec(f.load(t, layered(t, layers[:n]...)), "facts", "/layers")
		spec.Files = 64 // fewer than init has open
		facts := f.facts(t, spec)
		if got := len(facts.Listed["/layers"]); got != n-1 || !slices.Contains(facts.Root, fmt.Sprintf("top-%d", n-1)) || slices.Contains(facts.Root, "top-1") {
			t.Errorf("of %d layers it sees %d, and %q", n, got+1, facts.Root)
		}
	}
}
