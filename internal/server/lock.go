package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
)

// lock keeps other servers out of the data directory for as long as the file
// is open: the kernel lets go of it when the process ends, however it ends.
// Who meets it is told the process, and where it listens once sign has said so.
func lock(data string) (*os.File, error) {
	path := filepath.Join(data, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder, _ := os.ReadFile(path)
		_ = f.Close()
		return nil, core.Conflict("the data directory %s is in use by another server (%s): stop that one, or give this one another --data",
			data, strings.TrimSpace(string(holder)))
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	return f, nil
}

// sign writes into the lock who holds it. Without it the lock holds as well.
func sign(held *os.File, holder string) error {
	err := held.Truncate(0)
	if err == nil {
		_, err = held.WriteAt([]byte(holder+"\n"), 0)
	}
	if err != nil {
		return fmt.Errorf("sign the lock of the data directory: %w", err)
	}
	return nil
}
