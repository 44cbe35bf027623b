package e2e_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/api"
)

// fixture is an image that a test writes by itself, so that what the product
// reads was not written by the product.
type fixture struct {
	names        []string
	arch         string // that of this machine unless set
	entrypoint   []string
	cmd          []string
	env          []string
	user         string
	files        map[string][]byte
	compressed   bool
	withoutIndex bool // an OCI layout without its index.json
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func hexOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

type entry struct {
	name string
	data []byte
}

func writeTar(t *testing.T, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		mode := int64(0o644)
		if bytes.HasPrefix(e.data, []byte("\x7fELF")) {
			mode = 0o755
		}
		if err := w.WriteHeader(&tar.Header{Name: e.name, Mode: mode, Size: int64(len(e.data)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// encode is JSON without the possibility of an error.
func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type object = map[string]any

// parts gives the layer and the config of the image.
func (f fixture) parts(t *testing.T) (layer, config []byte) {
	t.Helper()
	var files []entry
	for _, name := range slices.Sorted(maps.Keys(f.files)) {
		files = append(files, entry{name, f.files[name]})
	}
	layer = writeTar(t, files)
	if f.arch == "" {
		f.arch = runtime.GOARCH
	}
	config = encode(t, object{
		"architecture": f.arch, "os": "linux",
		"config": object{"Entrypoint": f.entrypoint, "Cmd": f.cmd, "Env": f.env, "User": f.user},
		"rootfs": object{"type": "layers", "diff_ids": []string{digest(layer)}},
	})
	return layer, config
}

// dockerSave gives the image as docker save writes it.
func (f fixture) dockerSave(t *testing.T) []byte {
	t.Helper()
	layer, config := f.parts(t)
	configName, layerName := hexOf(digest(config))+".json", hexOf(digest(layer))+"/layer.tar"
	return writeTar(t, []entry{
		{layerName, layer},
		{configName, config},
		{"manifest.json", encode(t, []object{{"Config": configName, "RepoTags": f.names, "Layers": []string{layerName}}})},
	})
}

// layout gives the image in OCI layout, and the digest of its manifest
// (https://github.com/opencontainers/image-spec, image-layout.md).
func (f fixture) layout(t *testing.T) (tar []byte, manifestDigest string) {
	t.Helper()
	layer, config := f.parts(t)
	layerType := "application/vnd.oci.image.layer.v1.tar"
	if f.compressed {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write(layer); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		layer, layerType = b.Bytes(), layerType+"+gzip"
	}
	descriptor := func(kind string, data []byte) object {
		return object{"mediaType": kind, "digest": digest(data), "size": len(data)}
	}
	manifest := encode(t, object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": descriptor("application/vnd.oci.image.config.v1+json", config),
		"layers": []object{descriptor(layerType, layer)},
	})
	var manifests []object
	for _, name := range f.names {
		d := descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
		d["annotations"] = object{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
		manifests = append(manifests, d)
	}
	if len(f.names) == 0 {
		manifests = append(manifests, descriptor("application/vnd.oci.image.manifest.v1+json", manifest))
	}
	entries := []entry{{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	if !f.withoutIndex {
		entries = append(entries, entry{"index.json", encode(t, object{"schemaVersion": 2, "manifests": manifests})})
	}
	for _, blob := range [][]byte{manifest, config, layer} {
		entries = append(entries, entry{"blobs/sha256/" + hexOf(digest(blob)), blob})
	}
	return writeTar(t, entries), digest(manifest)
}

// program gives the bytes of the program that misbehaves.
func program(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(built("misbehave"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func misbehave(t *testing.T, names ...string) fixture {
	t.Helper()
	return fixture{
		names: names, entrypoint: []string{"/misbehave"}, env: []string{"FROM_IMAGE=yes", "WHO=image"},
		files: map[string][]byte{"misbehave": program(t), "etc/passwd": []byte("root:x:0:0::/root:/bin/sh\n")},
	}
}

// save writes a file for a command to read.
func save(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// loadMisbehave puts the image misbehave:1 into a server.
func loadMisbehave(t *testing.T, s *server) {
	t.Helper()
	tar, _ := misbehave(t, "misbehave:1").layout(t)
	s.does(t, "image", "load", save(t, "misbehave.tar", tar))
}

// create makes a function from misbehave:1 that runs with the arguments;
// flags are those of function create.
func (s *server) create(t *testing.T, app, name, behaviour string, flags ...string) {
	t.Helper()
	args := []string{"function", "create", name, "--app", app, "--image", "misbehave:1", "--memory", "64MiB"}
	for _, word := range append([]string{"/misbehave"}, strings.Fields(behaviour)...) {
		args = append(args, "--command", word)
	}
	s.does(t, append(args, flags...)...)
}

// deploy deploys a manifest.
func (s *server) deploy(t *testing.T, app, manifest string) string {
	t.Helper()
	dir := filepath.Dir(save(t, "dayfly.yaml", []byte(manifest)))
	return s.does(t, "deploy", dir, "--app", app)
}

func TestImageFromDockerSave(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	f := misbehave(t, "saved:1.2", "registry.example:5000/team/saved:v3")
	f.cmd = []string{"print", "from docker save"}
	path := save(t, "saved.tar", f.dockerSave(t))
	wantWords(t, s.does(t, "image", "load", path), "IMAGE", "saved:1.2", "registry.example:5000/team/saved:v3")
	for i, name := range f.names {
		fn := "saved-" + string(rune('a'+i))
		s.does(t, "function", "create", fn, "--app", "save", "--image", name, "--contract", "job")
		if got := s.does(t, "invoke", "save/"+fn, "-d", ""); got != "from docker save" {
			t.Errorf("a function of %s answered %q", name, got)
		}
	}
}

func TestImageFromLayout(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	for _, compressed := range []bool{false, true} {
		name := "layout:plain"
		if compressed {
			name = "layout:gzip"
		}
		f := misbehave(t, name)
		f.compressed, f.cmd = compressed, []string{"print", "from a layout"}
		data, want := f.layout(t)
		list := decode[api.List[api.Image]](t, s.does(t, "image", "load", "--json", save(t, "layout.tar", data)))
		if len(list.Items) != 1 || list.Items[0].Digest != want || !slices.Contains(list.Items[0].Names, name) {
			t.Errorf("image load told %+v, want %s %s", list.Items, name, want)
		}
		fn := strings.ReplaceAll(name, ":", "-")
		s.does(t, "function", "create", fn, "--app", "layout", "--image", name, "--contract", "job")
		if got := s.does(t, "invoke", "layout/"+fn, "-d", ""); got != "from a layout" {
			t.Errorf("a function of %s answered %q", name, got)
		}
	}
}

func TestImageWithoutNameIsFoundByDigest(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	f := misbehave(t)
	f.cmd = []string{"print", "nameless"}
	data, want := f.layout(t)
	// From standard input, as docker save writes it to a pipe.
	cmd := s.command(t, nil, "image", "load", "--json", "-")
	cmd.Stdin = bytes.NewReader(data)
	r := run(t, cmd)
	list := decode[api.List[api.Image]](t, r.out)
	if r.code != 0 || len(list.Items) != 1 || list.Items[0].Digest != want || len(list.Items[0].Names) != 0 {
		t.Fatalf("an image without a name should be told with its digest %s:\n%s", want, r)
	}
	s.does(t, "function", "create", "nameless", "--app", "digest", "--image", want, "--contract", "job")
	if got := s.does(t, "invoke", "digest/nameless", "-d", ""); got != "nameless" {
		t.Errorf("the function answered %q", got)
	}
	wantWords(t, s.does(t, "image", "list"), "misbehave:1", hexOf(want)[:12])
	all := decode[api.List[api.Image]](t, s.does(t, "image", "list", "--json")).Items
	if !slices.ContainsFunc(all, func(i api.Image) bool { return i.Digest == want && i.Config.Cmd[1] == "nameless" }) {
		t.Errorf("image list does not have %s", want)
	}
}

// An image's own user, environment and working directory hold.
func TestImageConfigHolds(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	f := misbehave(t, "config:1")
	f.cmd, f.env, f.user = []string{"env"}, []string{"FROM_IMAGE=yes", "A=image"}, "1234:5678"
	s.does(t, "image", "load", save(t, "config.tar", f.dockerSave(t)))
	s.does(t, "function", "create", "f", "--app", "config", "--image", "config:1", "--contract", "job", "--env", "A=function")
	env := decode[[]string](t, s.does(t, "invoke", "config/f", "-d", ""))
	for _, want := range []string{"FROM_IMAGE=yes", "A=function"} {
		if !slices.Contains(env, want) {
			t.Errorf("the environment should have %s: %v", want, env)
		}
	}
}

func TestImagesThatCannotBeLoaded(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	good := misbehave(t, "broken:1")
	other := good
	other.arch = "s390x"
	headless := good
	headless.withoutIndex = true
	otherTar, _ := other.layout(t)
	headlessTar, _ := headless.layout(t)
	cut := good.dockerSave(t)
	for _, c := range []struct {
		name  string
		data  []byte
		code  string
		words []string
	}{
		{"another architecture", otherTar, "image_unsupported", []string{"s390x", runtime.GOARCH}},
		{"another architecture, saved", other.dockerSave(t), "image_unsupported", []string{"s390x", runtime.GOARCH}},
		{"no index", headlessTar, "invalid", []string{"index.json"}},
		{"cut off", cut[:len(cut)/2], "invalid", nil},
		{"no tar", []byte("this is no tar"), "invalid", []string{"tar"}},
		{"empty", nil, "invalid", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := s.request(t.Context(), t, "POST", "/v1/images", bytes.NewReader(c.data))
			r.Header.Set("Content-Type", "application/x-tar")
			send(t, r).problem(t, 400, c.code, c.words...)
			s.fails(t, 1, c.words, "image", "load", save(t, "image.tar", c.data))
		})
	}
	t.Run("wrong digest", func(t *testing.T) {
		t.Parallel()
		data, _ := good.layout(t)
		i := bytes.Index(data, []byte("root:x:0:0::/root"))
		data[i] = 'R'
		s.fails(t, 1, []string{"digest"}, "image", "load", save(t, "image.tar", data))
	})
	t.Run("no file", func(t *testing.T) {
		t.Parallel()
		s.fails(t, 3, []string{"no such file"}, "image", "load", "/does/not/exist.tar")
	})
	t.Run("not a tar by its type", func(t *testing.T) {
		t.Parallel()
		r := s.request(t.Context(), t, "POST", "/v1/images", io.LimitReader(strings.NewReader("{}"), 2))
		r.Header.Set("Content-Type", "application/json")
		send(t, r).problem(t, 415, "invalid", "application/x-tar")
	})
	if list := s.does(t, "image", "list"); strings.Contains(list, "broken:1") {
		t.Errorf("an image that was refused is listed:\n%s", list)
	}
}
