//go:build linux || darwin

package sqlitefile

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// scarce is the free space, in bytes, under which a failed write is taken to
// have failed for want of space where SQLite does not tell.
const scarce = 1 << 20

func (f *File) spaceIsScarce() bool {
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(f.path), &fs); err != nil {
		return false
	}
	return fs.Bavail*uint64(fs.Bsize) < scarce || fs.Files > 0 && fs.Ffree == 0
}
