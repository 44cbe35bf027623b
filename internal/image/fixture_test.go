package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image"
)

// entry is a file of a tar: a directory when its name ends in a slash.
type entry struct {
	name, body string
	link       string
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o755, Size: int64(len(e.body)), Typeflag: tar.TypeReg}
		switch {
		case e.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		case e.name[len(e.name)-1] == '/':
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zstded(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// object is JSON to be written, and to be lied in.
type object = map[string]any

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// layout is an OCI layout in the making.
type layout struct {
	t     testing.TB
	blobs []entry
	index []any
}

func (l *layout) blob(data []byte, media string) object {
	l.blobs = append(l.blobs, entry{name: "blobs/sha256/" + digestOf(data)[7:], body: string(data)})
	return object{"mediaType": media, "size": len(data), "digest": digestOf(data)}
}

func (l *layout) json(v any, media string) object {
	l.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.blob(data, media)
}

// layer is a layer of an image: how it is in the tar and what it is.
type layer struct {
	blob  []byte
	media string
	plain []byte
}

func plainLayer(t testing.TB, entries ...entry) layer {
	data := tarOf(t, entries...)
	return layer{data, ociLayer, data}
}

func config(arch string, layers ...layer) object {
	ids := []string{}
	for _, l := range layers {
		ids = append(ids, digestOf(l.plain))
	}
	return object{
		"architecture": arch, "os": "linux", "rootfs": object{"type": "layers", "diff_ids": ids},
		"config": object{"Entrypoint": []string{"/app"}, "Cmd": []string{"x"}, "Env": []string{"A=b"}, "WorkingDir": "/w", "User": "app", "StopSignal": "SIGINT"},
	}
}

// image adds an image and gives its descriptor.
func (l *layout) image(cfg object, layers ...layer) object {
	l.t.Helper()
	descs := []any{}
	for _, one := range layers {
		descs = append(descs, l.blob(one.blob, one.media))
	}
	return l.json(object{"schemaVersion": 2, "mediaType": ociManifest, "config": l.json(cfg, ociConfig), "layers": descs}, ociManifest)
}

func (l *layout) name(desc object, name string) {
	named := object{"annotations": object{"org.opencontainers.image.ref.name": name}}
	maps.Copy(named, desc)
	l.index = append(l.index, named)
}

func (l *layout) tar(more ...entry) []byte {
	l.t.Helper()
	data, err := json.Marshal(object{"schemaVersion": 2, "manifests": l.index})
	if err != nil {
		l.t.Fatal(err)
	}
	entries := append([]entry{{name: "oci-layout", body: `{"imageLayoutVersion":"1.0.0"}`}, {name: "blobs/"}}, l.blobs...)
	return tarOf(l.t, append(append(entries, entry{name: "index.json", body: string(data)}), more...)...)
}

// simple is a layout of one image.
func simple(t testing.TB, name string, layers ...layer) []byte {
	l := &layout{t: t}
	l.name(l.image(config(runtime.GOARCH, layers...), layers...), name)
	return l.tar()
}

func open(t testing.TB, opts image.Options) (*image.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "images")
	return reopen(t, dir, opts), dir
}

func reopen(t testing.TB, dir string, opts image.Options) *image.Store {
	t.Helper()
	s, err := image.Open(t.Context(), dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func load(t testing.TB, s *image.Store, data []byte) []core.Image {
	t.Helper()
	images, err := s.Load(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return images
}

// tree lists all that is in the store's directories.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, p)
		out = append(out, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t testing.TB, elem ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var day0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
