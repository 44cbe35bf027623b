// Package pack writes container images of one layer: a program or a few
// files, an entrypoint and an environment, as a tar that dayfly, Docker and
// OCI tools load.
//
// The tar is an OCI layout (https://github.com/opencontainers/image-spec/blob/main/image-layout.md)
// with the manifest.json of docker save beside it, for Docker Engines before
// version 25. It is reproducible: files are sorted, belong to user 0 and carry
// no time, so that the same input gives the same bytes and the same digest.
// With Gzip set, that holds for one version of the compressor.
//
// The package keeps no state; Write may be called concurrently. The layer
// goes through a temporary file, so its size is not bounded by memory.
package pack

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Image is what to write.
type Image struct {
	// Name is what the image is called, such as "hello" or "shop/resize:1.2";
	// "" for none.
	Name string
	// Files are the layer, in any order. Directories that are missing are
	// made, with mode 0755.
	Files []File
	// Config is what the image says of its process. OS and Architecture are
	// linux and this program's unless they are set.
	Config core.ImageConfig
	// Gzip compresses the layer: smaller to send, slower to make and load.
	Gzip bool
}

// File is a file, directory or symbolic link of the layer.
type File struct {
	// Path is where it goes, such as "app/server"; a leading slash is the
	// same place.
	Path string
	// Mode has the permissions with the setuid, setgid and sticky bits, and
	// the type: regular, fs.ModeDir or fs.ModeSymlink.
	Mode fs.FileMode
	// Open gives the contents of a regular file and how many bytes it has. It
	// is called once.
	Open func() (io.ReadCloser, int64, error)
	// Link is where a symbolic link leads.
	Link string
}

// Write writes the image as a tar and tells the digest of its manifest,
// "sha256:...". Two files of one path, or a path that leads out of the image,
// are core.KindInvalid; other errors are those of the files and of w.
func Write(w io.Writer, img Image) (digest string, err error) {
	files, err := plan(img.Files)
	if err != nil {
		return "", err
	}
	tag := ""
	if img.Name != "" {
		ref, err := name.NewTag(img.Name, name.WeakValidation)
		if err != nil {
			return "", core.Invalid("the image name %q is not one: write it like shop/resize:1.2", img.Name)
		}
		// Docker and containerd say docker.io where the library says index.docker.io.
		tag = strings.TrimPrefix(ref.Name(), "index.")
	}
	spool, err := os.CreateTemp("", "dayfly-layer-")
	if err != nil {
		return "", fmt.Errorf("packing an image: %w", err)
	}
	defer func() {
		err = errors.Join(err, spool.Close(), os.Remove(spool.Name()))
	}()
	layer, diffID, err := writeLayer(spool, files, img.Gzip)
	if err != nil {
		return "", err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("packing an image: %w", err)
	}
	return writeLayout(w, img, tag, spool, layer, diffID)
}

// plan sorts the files and adds the directories that are missing.
func plan(files []File) ([]File, error) {
	byPath := map[string]File{}
	for _, f := range files {
		clean := path.Clean("/" + f.Path)[1:]
		if clean == "" || slices.Contains(strings.Split(f.Path, "/"), "..") {
			return nil, core.Invalid("the file path %q does not lead into the image", f.Path)
		}
		if _, ok := byPath[clean]; ok {
			return nil, core.Invalid("the image has two files at %q", clean)
		}
		switch f.Mode.Type() {
		case 0:
			if f.Open == nil {
				return nil, core.Invalid("the file %q has no contents", clean)
			}
		case fs.ModeDir, fs.ModeSymlink:
		default:
			return nil, core.Invalid("%q is neither file, directory nor symbolic link", clean)
		}
		f.Path = clean
		byPath[clean] = f
	}
	for _, f := range files {
		for dir := path.Dir(path.Clean("/" + f.Path)[1:]); dir != "."; dir = path.Dir(dir) {
			parent, ok := byPath[dir]
			if ok && !parent.Mode.IsDir() {
				return nil, core.Invalid("%q is no directory and %q is below it", dir, f.Path)
			}
			if !ok {
				byPath[dir] = File{Path: dir, Mode: fs.ModeDir | 0o755}
			}
		}
	}
	out := make([]File, 0, len(byPath))
	for _, f := range byPath {
		out = append(out, f)
	}
	// By components, so that a directory stands before what is in it and
	// beside nothing else.
	slices.SortFunc(out, func(a, b File) int {
		return slices.Compare(strings.Split(a.Path, "/"), strings.Split(b.Path, "/"))
	})
	return out, nil
}

// writeLayer writes the layer's blob and describes it.
func writeLayer(w io.Writer, files []File, compress bool) (v1.Descriptor, v1.Hash, error) {
	blobSum, diffSum := sha256.New(), sha256.New()
	size := &counter{}
	out := io.MultiWriter(w, blobSum, size)
	d := v1.Descriptor{MediaType: types.OCIUncompressedLayer}
	plain := io.MultiWriter(out, diffSum)
	end := func() error { return nil }
	if compress {
		d.MediaType = types.OCILayer
		z := gzip.NewWriter(out)
		plain, end = io.MultiWriter(z, diffSum), z.Close
	}
	tw := tar.NewWriter(plain)
	for _, f := range files {
		if err := add(tw, f); err != nil {
			return d, v1.Hash{}, fmt.Errorf("packing %s: %w", f.Path, err)
		}
	}
	if err := errors.Join(tw.Close(), end()); err != nil {
		return d, v1.Hash{}, fmt.Errorf("packing an image: %w", err)
	}
	d.Size, d.Digest = size.n, hashOf(blobSum.Sum(nil))
	return d, hashOf(diffSum.Sum(nil)), nil
}

func add(tw *tar.Writer, f File) (err error) {
	h := &tar.Header{Name: f.Path, Mode: mode(f.Mode), Typeflag: tar.TypeReg}
	switch f.Mode.Type() {
	case fs.ModeDir:
		h.Name, h.Typeflag = f.Path+"/", tar.TypeDir
	case fs.ModeSymlink:
		h.Linkname, h.Typeflag = f.Link, tar.TypeSymlink
	}
	if h.Typeflag != tar.TypeReg {
		return tw.WriteHeader(h) //nolint:wrapcheck // the caller names the file
	}
	r, size, err := f.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	h.Size = size
	if err := tw.WriteHeader(h); err != nil {
		return err //nolint:wrapcheck // the caller names the file
	}
	if _, err := io.CopyN(tw, r, size); err != nil {
		return fmt.Errorf("it has fewer than %d bytes: %w", size, err)
	}
	return nil
}

// mode gives the bits of a mode as tar and Unix have them.
func mode(m fs.FileMode) int64 {
	bits := int64(m.Perm())
	for _, b := range []struct {
		mode fs.FileMode
		bit  int64
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&b.mode != 0 {
			bits |= b.bit
		}
	}
	return bits
}

// saved is an entry of docker save's manifest.json.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// writeLayout writes the outer tar.
func writeLayout(w io.Writer, img Image, tag string, layerBlob io.Reader, layer v1.Descriptor, diffID v1.Hash) (digest string, err error) {
	c := img.Config
	config, configData, err := encode(types.OCIConfigJSON, v1.ConfigFile{
		OS: cmp.Or(c.OS, "linux"), Architecture: cmp.Or(c.Architecture, runtime.GOARCH),
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diffID}},
		Config: v1.Config{
			Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env,
			WorkingDir: c.WorkingDir, User: c.User, StopSignal: c.StopSignal,
		},
	})
	if err != nil {
		return "", err
	}
	manifest, manifestData, err := encode(types.OCIManifestSchema1, v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config, Layers: []v1.Descriptor{layer},
	})
	if err != nil {
		return "", err
	}
	entry := manifest
	old := saved{Config: blobPath(config), Layers: []string{blobPath(layer)}}
	if tag != "" {
		entry.Annotations = map[string]string{"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": img.Name}
		old.RepoTags = []string{withTag(img.Name)}
	}
	_, indexData, err := encode("", v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{entry},
	})
	if err != nil {
		return "", err
	}
	_, savedData, err := encode("", []saved{old})
	if err != nil {
		return "", err
	}
	tw := tar.NewWriter(w)
	for _, f := range []struct {
		name string
		size int64
		data io.Reader
	}{
		{"oci-layout", 0, strings.NewReader(`{"imageLayoutVersion":"1.0.0"}`)},
		{"index.json", 0, bytes.NewReader(indexData)},
		{"manifest.json", 0, bytes.NewReader(savedData)},
		{blobPath(manifest), 0, bytes.NewReader(manifestData)},
		{blobPath(config), 0, bytes.NewReader(configData)},
		{blobPath(layer), layer.Size, layerBlob},
	} {
		if sized, ok := f.data.(interface{ Size() int64 }); ok {
			f.size = sized.Size()
		}
		if err := tw.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: f.size, Typeflag: tar.TypeReg}); err != nil {
			return "", fmt.Errorf("writing the image: %w", err)
		}
		if _, err := io.CopyN(tw, f.data, f.size); err != nil {
			return "", fmt.Errorf("writing the image: %w", err)
		}
	}
	if err := tw.Close(); err != nil {
		return "", fmt.Errorf("writing the image: %w", err)
	}
	return manifest.Digest.String(), nil
}

// withTag gives a name its tag when it has none; older Docker Engines need
// one.
func withTag(image string) string {
	last := image[strings.LastIndex(image, "/")+1:]
	if strings.Contains(last, ":") {
		return image
	}
	return image + ":latest"
}

func blobPath(d v1.Descriptor) string { return "blobs/sha256/" + d.Digest.Hex }

func encode(media types.MediaType, v any) (v1.Descriptor, []byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, nil, fmt.Errorf("describing the image: %w", err)
	}
	sum := sha256.Sum256(data)
	return v1.Descriptor{MediaType: media, Size: int64(len(data)), Digest: hashOf(sum[:])}, data, nil
}

func hashOf(sum []byte) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum)}
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
