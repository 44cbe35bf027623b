package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image/registry"
)

const (
	// downloadTries is how often a download is begun that gets no further.
	downloadTries = 5
	// downloadStep is how far one must get to have got further.
	downloadStep = 256 << 10
	// firstPause is how long it pauses after the first try; then each time
	// twice as long.
	firstPause = 500 * time.Millisecond
)

// download is a blob on its way into a file, which keeps what has come for
// the next try, also of the next process.
type download struct {
	repo  *registry.Repository
	blob  v1.Descriptor
	room  *room
	state *layerProgress
	pause time.Duration // before the second try

	file *os.File
	sum  hash.Hash
	have int64
}

// run brings the blob into the file and verifies it. What has come stays
// there after an error, unless it is wrong or the disk is full.
func (d *download) run(ctx context.Context, path string) (err error) {
	if d.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return fmt.Errorf("spooling a layer: %w", diskError(err))
	}
	defer func() {
		err = errors.Join(err, d.file.Close())
		if core.AsError(err).Code == core.ReasonDiskFull {
			err = errors.Join(err, ignoreGone(os.Remove(path)))
		}
	}()
	if err := d.takeUp(); err != nil {
		return err
	}
	resumed := d.have > 0
	for {
		if err := d.fetch(ctx); err != nil {
			return err
		}
		got := "sha256:" + hex.EncodeToString(d.sum.Sum(nil))
		if got == d.blob.Digest.String() {
			return nil
		}
		if err := d.restart(); err != nil {
			return err
		}
		if !resumed {
			return pullFailed(core.KindUnavailable, nil, "the registry of %s answered something else, with the digest %s: it is damaged, or lies",
				d.repo.Shown(d.blob.Digest.String()), got)
		}
		resumed = false // what was there was not what it seemed: once more from the start
	}
}

// takeUp reads what an earlier try has left.
func (d *download) takeUp() error {
	d.sum = sha256.New()
	n, err := io.Copy(d.sum, d.file)
	if err != nil {
		return fmt.Errorf("reading a spooled layer: %w", err)
	}
	if n > d.blob.Size {
		return d.restart()
	}
	d.have = n
	d.state.got.Store(n)
	return d.room.take(n)
}

// restart drops what has come.
func (d *download) restart() error {
	d.sum.Reset()
	d.have = 0
	d.state.got.Store(0)
	if err := d.file.Truncate(0); err != nil {
		return fmt.Errorf("spooling a layer: %w", err)
	}
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("spooling a layer: %w", err)
	}
	return nil
}

// fetch gets what is missing, in as many tries as get it further and some
// more.
func (d *download) fetch(ctx context.Context) error {
	pause := d.pause
	for tries := 1; d.have < d.blob.Size; tries++ {
		before := d.have
		err := d.try(ctx)
		if err == nil {
			continue
		}
		if d.have-before >= downloadStep {
			tries, pause = 0, d.pause
		}
		e := core.AsError(err)
		if tries >= downloadTries || e.Kind != core.KindUnavailable || e.Code != core.ReasonImagePullFailed {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		pause *= 2
	}
	return nil
}

// try reads as much as one answer of the registry has.
func (d *download) try(ctx context.Context) (err error) {
	body, start, err := d.repo.Blob(ctx, d.blob, d.have)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // it is read, or failed
	if start != d.have {
		if err := d.restart(); err != nil {
			return err
		}
	}
	buf := make([]byte, 512<<10)
	for {
		n, readErr := body.Read(buf)
		if int64(n) > d.blob.Size-d.have {
			return d.wrongSize("more")
		}
		if err := d.keep(buf[:n]); err != nil {
			return err
		}
		switch {
		case errors.Is(readErr, io.EOF) && d.have < d.blob.Size:
			return d.wrongSize("less")
		case errors.Is(readErr, io.EOF):
			return nil
		case readErr != nil:
			return readErr
		}
	}
}

func (d *download) keep(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if err := d.room.take(int64(len(data))); err != nil {
		return err
	}
	if _, err := d.file.Write(data); err != nil {
		return fmt.Errorf("spooling a layer: %w", diskError(err))
	}
	d.sum.Write(data)
	d.have += int64(len(data))
	d.state.got.Add(int64(len(data)))
	return nil
}

func (d *download) wrongSize(than string) error {
	return pullFailed(core.KindUnavailable, nil, "the registry sent %s of %s than the %d bytes it should have: it is damaged, lies, or the connection was cut",
		than, d.repo.Shown(d.blob.Digest.String()), d.blob.Size)
}

func pullFailed(kind core.Kind, err error, format string, args ...any) error {
	e := core.Errorf(kind, core.ReasonImagePullFailed, format, args...)
	e.Err = err
	return e
}

// remote is an image's repository as a source of its parts.
type remote struct{ repo *registry.Repository }

// document implements source.
func (r remote) document(ctx context.Context, d v1.Descriptor, what, called string, limit core.Bytes) ([]byte, error) {
	if err := knownDigest(d, what, called); err != nil {
		return nil, err
	}
	if isIndex(d.MediaType) || isManifest(d.MediaType) {
		data, _, err := r.repo.Manifest(ctx, d, "")
		return data, err
	}
	// The specification lets small documents stand in their descriptor.
	if len(d.Data) > 0 && int64(len(d.Data)) == d.Size && sha256Of(d.Data) == d.Digest.String() {
		return bytes.Clone(d.Data), nil
	}
	return r.repo.SmallBlob(ctx, d, limit)
}

// layer implements source.
func (r remote) layer(d v1.Descriptor, called string) (*blob, error) {
	if err := knownDigest(d, "layer", called); err != nil {
		return nil, err
	}
	if d.Size <= 0 {
		return nil, pullFailed(core.KindInvalid, nil, "the image %s has a layer of %d bytes: no layer is that small", called, d.Size)
	}
	return &blob{digest: d.Digest.String(), size: d.Size}, nil
}
