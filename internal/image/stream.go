package image

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/dayfly-io/dayfly/internal/core"
)

// zstdWindow is the largest window of a zstd stream, and with it the memory
// one takes: what the zstd program reads without being told to take more.
const zstdWindow = 128 << 20

// compressions are known by their first bytes; the media type of a layer is
// not always true, and old tars have none.
var compressions = []struct {
	magic []byte
	name  string
	open  func(r io.Reader) (io.ReadCloser, error)
}{
	{[]byte{0x1f, 0x8b, 0x08}, "gzip", func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
	{[]byte{0x28, 0xb5, 0x2f, 0xfd}, "zstd", func(r io.Reader) (io.ReadCloser, error) {
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err //nolint:wrapcheck // damaged does
		}
		return d.IOReadCloser(), nil
	}},
	{[]byte("BZh"), "bzip2", nil},
	{[]byte{0xfd, '7', 'z', 'X', 'Z', 0}, "xz", nil},
}

// decompress gives what a stream holds, compressed with gzip or zstd or not
// at all.
func decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 256<<10)
	start, err := buffered.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for _, c := range compressions {
		if !bytes.HasPrefix(start, c.magic) {
			continue
		}
		if c.open == nil {
			return nil, core.Errorf(core.KindInvalid, core.ReasonImageUnsupported, "the image is compressed with %s; gzip, zstd and none are known", c.name)
		}
		opened, err := c.open(buffered)
		if err != nil {
			return nil, damaged(c.name, err)
		}
		return &compressed{ReadCloser: opened, name: c.name}, nil
	}
	return io.NopCloser(buffered), nil
}

// compressed says of an error that it is the compression's.
type compressed struct {
	io.ReadCloser
	name string
}

func (c *compressed) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = damaged(c.name, err)
	}
	return n, err
}

func damaged(compression string, err error) error {
	return &core.Error{
		Kind: core.KindInvalid, Code: core.CodeInvalid, Err: err,
		Message: "the " + compression + " stream is damaged, cut short or has something else after it",
	}
}

// counted counts what is read from the reader below.
type counted struct {
	io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

// The pieces in which a layer passes from the goroutine that decompresses it
// to the one that writes files: few and large, since a handoff costs more
// than decompressing some kilobytes.
const (
	pieceSize = 1 << 20
	pieces    = 4
)

// piece is a part of a stream. err comes with the last.
type piece struct {
	data []byte
	err  error
}

// ahead reads a stream in a goroutine of its own, holds its size within bounds
// and hashes what is taken from it.
type ahead struct {
	full chan piece
	free chan []byte
	stop chan struct{}
	done sync.WaitGroup
	cur  piece
	rest []byte
	sum  hash.Hash // complete when Read has answered io.EOF
}

// readAhead starts reading; check is asked about the sum of bytes after each
// piece. Close ends it.
func readAhead(r io.Reader, check func(total int64) error) *ahead {
	a := &ahead{
		full: make(chan piece, pieces), free: make(chan []byte, pieces),
		stop: make(chan struct{}), sum: sha256.New(),
	}
	for range pieces {
		a.free <- nil // made when needed: most layers are small
	}
	a.done.Go(func() { a.run(r, check) })
	return a
}

func (a *ahead) run(r io.Reader, check func(total int64) error) {
	var total int64
	for {
		var buf []byte
		select {
		case <-a.stop:
			return
		case buf = <-a.free:
		}
		if buf == nil {
			buf = make([]byte, pieceSize)
		}
		n, err := fill(r, buf)
		total += int64(n)
		if limit := check(total); limit != nil {
			err = limit
		}
		a.full <- piece{data: buf[:n], err: err} // never blocks: as many places as pieces
		if err != nil {
			return
		}
	}
}

// fill reads until buf is full; unlike io.ReadFull it hands on the reader's
// own error.
func fill(r io.Reader, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := r.Read(buf[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.cur.err != nil {
			return 0, a.cur.err
		}
		if a.cur.data != nil {
			a.free <- a.cur.data[:pieceSize]
		}
		a.cur = <-a.full
		a.sum.Write(a.cur.data) // here, for decompressing is the slower side
		a.rest = a.cur.data
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// digest is that of the whole stream, once Read has answered io.EOF.
func (a *ahead) digest() string { return "sha256:" + hex.EncodeToString(a.sum.Sum(nil)) }

func (a *ahead) Close() error {
	close(a.stop)
	a.done.Wait()
	return nil
}
