package measure

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image/pack"
)

// UnpackOptions are how much of it is measured.
type UnpackOptions struct {
	Rounds int
	// Megabytes is the size of the layer, about.
	Megabytes int
}

// Unpack measures how fast an image with one layer of mixed files is loaded:
// sent to the server, verified, unpacked. Every load is of a layer that the
// server does not have, into directories that are new; nothing is removed
// before the end.
func Unpack(ctx context.Context, b *Bench, o UnpackOptions) error {
	s, err := b.server(ctx, "server", nil)
	if err != nil {
		return err
	}
	defer b.stop(s)
	base := text(16 << 20)
	for round := range o.Rounds {
		for _, compressed := range []bool{false, true} {
			name := "plain"
			if compressed {
				name = "gzip"
			}
			a, err := b.archive(fmt.Sprintf("%s-%d", name, round), layerFiles(base, o.Megabytes, name, round), compressed)
			if err != nil {
				return err
			}
			load := func() error {
				f, err := os.Open(a.image)
				if err != nil {
					return err
				}
				defer func() { _ = f.Close() }() // it was only read
				_, err = s.LoadImages(ctx, f)
				return err
			}
			untar := func() error { return a.untar(ctx) }
			if err := b.timed(round, "dayfly, "+name, a, load); err != nil {
				return err
			}
			if err := b.timed(round, "tar, "+name, a, untar); err != nil {
				return err
			}
		}
	}
	return nil
}

// timed measures one way to unpack an archive.
func (b *Bench) timed(round int, variant string, a *archive, do func() error) error {
	unix.Sync() // what was written before is not this one's work
	began := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", variant, err)
	}
	took := time.Since(began)
	rate := float64(a.layerBytes) / 1e6 / took.Seconds()
	b.Log.Info("unpack", "variant", variant, "round", round+1, "mb_per_second", int(rate))
	return b.Out.Sample(round, variant, map[string]float64{
		"seconds_s": took.Seconds(), "layer_bytes": float64(a.layerBytes), "image_bytes": float64(a.imageBytes),
		"files": float64(a.files), "mb_per_second": rate,
	})
}

// archive is an image of one layer, and the layer's blob by itself.
type archive struct {
	image, layer           string
	layerBytes, imageBytes int64
	files                  int
	compressed             bool
}

// archive packs files.
func (b *Bench) archive(name string, files []pack.File, compressed bool) (*archive, error) {
	a := &archive{
		image: filepath.Join(b.Dir, name+".image.tar"), layer: filepath.Join(b.Dir, name+".layer.tar"),
		files: len(files), compressed: compressed,
	}
	f, err := os.Create(a.image)
	if err != nil {
		return nil, fmt.Errorf("make an archive: %w", err)
	}
	_, err = pack.Write(f, pack.Image{
		Name: "unpack-" + name, Files: files, Gzip: compressed, Config: core.ImageConfig{Entrypoint: []string{"/app"}},
	})
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("make an archive: %w", err)
	}
	return a, a.cutOut()
}

// cutOut finds the layer's blob, which is the largest file of the image, and
// its size when unpacked.
func (a *archive) cutOut() error {
	f, err := os.Open(a.image)
	if err != nil {
		return fmt.Errorf("read an archive: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read an archive: %w", err)
	}
	a.imageBytes = info.Size()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err != nil {
			return fmt.Errorf("look for the layer in an archive: %w", err)
		}
		if h.Size < a.imageBytes/2 {
			continue
		}
		out, err := os.Create(a.layer)
		if err != nil {
			return fmt.Errorf("cut out a layer: %w", err)
		}
		_, err = io.Copy(out, tr)
		if err := errors.Join(err, out.Close()); err != nil {
			return fmt.Errorf("cut out a layer: %w", err)
		}
		break
	}
	return a.measureLayer()
}

func (a *archive) measureLayer() error {
	if !a.compressed {
		info, err := os.Stat(a.layer)
		if err != nil {
			return fmt.Errorf("measure a layer: %w", err)
		}
		a.layerBytes = info.Size()
		return nil
	}
	cmd := exec.Command("gzip", "-dc", a.layer)
	count := &counter{}
	cmd.Stdout = count
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("measure a layer: %w", err)
	}
	a.layerBytes = count.n
	return nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// untar unpacks the layer by tar, which verifies nothing, into a new
// directory.
func (a *archive) untar(ctx context.Context) error {
	dir := strings.TrimSuffix(a.layer, ".tar") + ".d"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make a directory to unpack into: %w", err)
	}
	args := []string{"-xf", a.layer, "-C", dir}
	if a.compressed {
		args = append([]string{"-z"}, args...)
	}
	if out, err := exec.CommandContext(ctx, "tar", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("run tar: %w: %s", err, out)
	}
	return nil
}

// text makes bytes that compress as programs and texts do, to two fifths.
func text(size int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := make([][]byte, 4096)
	for i := range words {
		words[i] = make([]byte, 4+r.IntN(7))
		for j := range words[i] {
			words[i][j] = byte(r.Uint32())
		}
	}
	var b bytes.Buffer
	for b.Len() < size {
		b.Write(words[r.IntN(len(words))])
	}
	return b.Bytes()[:size]
}

// layerFiles plans a layer of about so many megabytes: in parts of it, a tenth
// in small files, three tenths in middling ones, the rest in large ones.
func layerFiles(base []byte, megabytes int, name string, round int) []pack.File {
	var files []pack.File
	seed := uint64(round)<<8 | uint64(len(name))
	add := func(kind string, total, size int) {
		for i := range max(total/size, 1) {
			r := rand.New(rand.NewPCG(seed, uint64(size+i)))
			at := r.IntN(len(base) - size)
			files = append(files, pack.File{
				Path: fmt.Sprintf("usr/%s/%02d/file-%d", kind, i%40, i), Mode: 0o644,
				Open: func() (io.ReadCloser, int64, error) {
					return io.NopCloser(bytes.NewReader(base[at : at+size])), int64(size), nil
				},
			})
		}
	}
	all := megabytes * 1_000_000
	add("small", all/10, 4<<10)
	add("middling", all*3/10, 64<<10)
	add("large", all*3/10, 1<<20)
	add("huge", all*3/10, 12<<20)
	return files
}
