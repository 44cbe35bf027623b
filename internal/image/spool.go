package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/dayfly-io/dayfly/internal/core"
)

// maxSpooled bounds the files of one tar. 100 images of 127 layers fit.
const maxSpooled = 20_000

// blob is a file of a tar, on disk. Its name there is a number, so that
// nothing a tar says becomes a path.
type blob struct {
	file   string
	size   int64
	digest string
}

// spool is a tar taken apart. The description of an image may come after its
// layers, so nothing can be unpacked before all is there.
type spool struct {
	dir   string
	n     int               // of files so far
	files map[string]*blob  // by clean name in the tar
	links map[string]string // docker save before version 25 links equal layers
}

// spoolTar reads a tar, compressed or not, into dir.
func spoolTar(ctx context.Context, r io.Reader, dir string, room *room) (*spool, error) {
	plain, err := decompress(r)
	if err != nil {
		return nil, spoolError(err)
	}
	defer func() { _ = plain.Close() }()
	s := &spool{dir: dir, files: map[string]*blob{}, links: map[string]string{}}
	tr := tar.NewReader(plain)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("reading an image: %w", context.Cause(ctx))
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil {
			return nil, spoolError(err)
		}
		if n >= maxSpooled {
			return nil, core.Errorf(core.KindTooLarge, core.CodeTooLarge, "the tar has more than %d files, the most a tar of images may have", maxSpooled)
		}
		if err := s.add(ctx, h, tr, room); err != nil {
			return nil, err
		}
	}
}

func (s *spool) add(ctx context.Context, h *tar.Header, r io.Reader, room *room) error {
	if len(h.Name) > maxName {
		return core.Invalid("the tar of the image has a file with a name of %d bytes; %d are the most", len(h.Name), maxName)
	}
	name := path.Clean("/" + h.Name)
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeSymlink:
		s.links[name] = path.Join(path.Dir(name), "/"+h.Linkname)
		if !path.IsAbs(h.Linkname) {
			s.links[name] = path.Join(path.Dir(name), h.Linkname) //nolint:gosec // a name in the tar; nothing is opened by it
		}
		return nil
	case tar.TypeLink:
		s.links[name] = path.Clean("/" + h.Linkname)
		return nil
	default:
		return nil // directories and what else describes no image
	}
	b := &blob{file: filepath.Join(s.dir, "blob-"+strconv.Itoa(s.n)), size: h.Size}
	s.n++ // a name may come twice; the last counts
	digest, err := store(ctx, b.file, r, room)
	if err != nil {
		return err
	}
	b.digest = digest
	s.files[name] = b
	return nil
}

// store writes what r gives into a new file and tells its digest.
func store(ctx context.Context, file string, r io.Reader, room *room) (digest string, err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("spooling an image: %w", diskError(err))
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	buf := make([]byte, 512<<10)
	for {
		if ctx.Err() != nil {
			return "", fmt.Errorf("reading an image: %w", context.Cause(ctx))
		}
		n, readErr := fill(r, buf)
		if err := room.take(int64(n)); err != nil {
			return "", err
		}
		sum.Write(buf[:n])
		if _, err := f.Write(buf[:n]); err != nil {
			return "", fmt.Errorf("spooling an image: %w", diskError(err))
		}
		if errors.Is(readErr, io.EOF) {
			return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
		}
		if readErr != nil {
			return "", spoolError(readErr)
		}
	}
}

// spoolError tells a damaged tar from the trouble of whoever sends it. Both
// may be a cut connection, so both say what the tar should have been.
func spoolError(err error) error {
	if _, ok := errors.AsType[*core.Error](err); ok {
		return err
	}
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &core.Error{
			Kind: core.KindInvalid, Code: core.CodeInvalid, Err: err,
			Message: "this is no whole tar of images: it is damaged, cut short or something else; send the output of docker save or an OCI layout",
		}
	}
	return fmt.Errorf("reading an image: %w", err)
}

// find gives the file of that name, through links.
func (s *spool) find(name string) (*blob, bool) {
	name = path.Clean("/" + name)
	for range 8 {
		if b, ok := s.files[name]; ok {
			return b, true
		}
		next, ok := s.links[name]
		if !ok {
			return nil, false
		}
		name = next
	}
	return nil, false
}

// remove removes all files of the spool.
func (s *spool) remove() error {
	for _, b := range s.files {
		if err := ignoreGone(os.Remove(b.file)); err != nil {
			return fmt.Errorf("removing a spooled image: %w", err)
		}
	}
	return nil
}

// read gives the contents of a small file.
func (b *blob) read(what string, limit core.Bytes) ([]byte, error) {
	if core.Bytes(b.size) > limit {
		return nil, core.Errorf(core.KindTooLarge, core.CodeTooLarge, "the %s of the image has %d bytes; %s are the most", what, b.size, limit)
	}
	data, err := os.ReadFile(b.file)
	if err != nil {
		return nil, fmt.Errorf("reading the %s of an image: %w", what, err)
	}
	return data, nil
}
