package build

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image/pack"
)

// entrypoint is where the program is in an image.
const entrypoint = "function"

// Options say what is built and how.
type Options struct {
	// Root is the directory that the source may not lie outside of: that of
	// the manifest.
	Root string
	// Source is the directory of the source, relative to Root.
	Source string
	// Runtime is what the source is written in, such as "go".
	Runtime string
	// Arch is the GOARCH the image is for; "" means that of this machine.
	Arch string
	// Env is the environment of the compiler, K=V; the compiler is looked up
	// in its PATH.
	Env []string
	// Output is where the compiler prints; nil discards.
	Output io.Writer
}

// Image is an image that was built. It is not safe for concurrent use.
type Image struct {
	// Size is that of the program in it.
	Size   core.Bytes
	arch   string
	binary string
	dir    string
}

// Build makes an image. Errors are [core.Error] of kind invalid where the
// source or the host's compiler is to be mended.
func Build(ctx context.Context, opt Options) (*Image, error) {
	source, err := inside(opt.Root, opt.Source)
	if err != nil {
		return nil, err
	}
	if opt.Arch == "" {
		opt.Arch = runtime.GOARCH
	}
	if opt.Output == nil {
		opt.Output = io.Discard
	}
	dir, err := os.MkdirTemp("", "dayfly-build-")
	if err != nil {
		return nil, fmt.Errorf("make a directory to build in: %w", err)
	}
	image := &Image{arch: opt.Arch, binary: filepath.Join(dir, entrypoint), dir: dir}
	switch opt.Runtime {
	case "go":
		err = compileGo(ctx, source, image.binary, opt)
	default:
		err = core.Invalid("%q is not a runtime that can be built: it is go", opt.Runtime)
	}
	if err == nil {
		image.Size, err = checkProgram(image.binary, opt.Source)
	}
	if err != nil {
		return nil, cleanUp(dir, err)
	}
	return image, nil
}

// Close removes what the build left on disk.
func (i *Image) Close() error {
	if err := os.RemoveAll(i.dir); err != nil {
		return fmt.Errorf("remove what was built: %w", err)
	}
	return nil
}

// cleanUp removes the directory of a build that failed. What failed first is
// what is told.
func cleanUp(dir string, err error) error {
	_ = os.RemoveAll(dir)
	return err
}

// inside gives the real path of a source directory, and refuses one that does
// not lie in root, also by way of a symlink.
func inside(root, source string) (string, error) {
	if filepath.IsAbs(source) {
		return "", core.Invalid("the source %s is an absolute path: write it relative to the manifest", source)
	}
	base, err := filepath.Abs(root)
	if err == nil {
		base, err = filepath.EvalSymlinks(base)
	}
	if err != nil {
		return "", fmt.Errorf("look for the directory of the manifest: %w", err)
	}
	path, err := filepath.EvalSymlinks(filepath.Join(base, source))
	if err != nil {
		return "", core.Invalid("the source %s is not there: it is looked for beside the manifest, in %s", source, base)
	}
	if path != base && !strings.HasPrefix(path, strings.TrimSuffix(base, "/")+"/") {
		return "", core.Invalid("the source %s lies outside of the directory of the manifest, %s: move one of them", source, base)
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return "", core.Invalid("the source %s is not a directory", source)
	}
	return path, nil
}

// WriteTar writes the image as a tar in OCI layout, under a name, or none when
// name is "". It tells the digest of the image's manifest, "sha256:...", which
// does not depend on the name.
func (i *Image) WriteTar(w io.Writer, name string) (string, error) {
	digest, err := pack.Write(w, pack.Image{
		Name: name,
		Files: []pack.File{{Path: entrypoint, Mode: 0o755, Open: func() (io.ReadCloser, int64, error) {
			f, err := os.Open(i.binary)
			return f, int64(i.Size), err
		}}},
		Config: core.ImageConfig{Entrypoint: []string{"/" + entrypoint}, WorkingDir: "/", OS: "linux", Architecture: i.arch},
	})
	if err != nil {
		return "", fmt.Errorf("write the image: %w", err)
	}
	return digest, nil
}
