package image

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
)

// checkEvery is how many bytes are written between two looks at the free
// space of the disk.
const checkEvery = 32 << 20

// room is the space that a load may take. Its methods may be called
// concurrently.
type room struct {
	dir     string
	max     core.Bytes
	minFree core.Bytes

	mu        sync.Mutex
	taken     int64
	unchecked int64
}

func (s *Store) newRoom() *room {
	return &room{dir: s.dir, max: s.opts.MaxImage, minFree: s.opts.MinFree, unchecked: checkEvery}
}

// take asks for n bytes more.
func (r *room) take(n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n > int64(r.max)-r.taken {
		return core.Errorf(core.KindTooLarge, core.CodeTooLarge, "the image is larger than %s, the most an image may be", r.max)
	}
	r.taken += n
	if r.unchecked += n; r.unchecked < checkEvery {
		return nil
	}
	r.unchecked = 0
	var fs unix.Statfs_t
	if err := unix.Statfs(r.dir, &fs); err != nil {
		return fmt.Errorf("looking for free space in %s: %w", r.dir, err)
	}
	if free := core.Bytes(int64(fs.Bavail) * fs.Bsize); free-core.Bytes(n) < r.minFree {
		return core.Unavailable(core.ReasonDiskFull, nil,
			"the disk with %s has %d MiB free; the image needs more, and %s are kept free: remove images or make room",
			r.dir, free/core.MiB, r.minFree)
	}
	return nil
}

// diskError makes a full disk an error that says so.
func diskError(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return core.Unavailable(core.ReasonDiskFull, err, "the disk with the images is full: remove images or make room")
	}
	return err
}

// syncfs writes what the file system of dir holds in memory to the disk; for
// thousands of files that is far cheaper than one by one.
func syncfs(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	defer func() { _ = d.Close() }()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("syncing %s: %w", dir, diskError(err))
	}
	return nil
}
