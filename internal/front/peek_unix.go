//go:build unix

package front

import (
	"errors"
	"syscall"
)

// canPeek tells whether the caller's leaving can be seen without reading.
const canPeek = true

// peek looks at what there is to read. wait means that there is nothing.
func peek(fd uintptr, one []byte) (gone, wait bool) {
	n, _, err := syscall.Recvfrom(int(fd), one, syscall.MSG_PEEK)
	for errors.Is(err, syscall.EINTR) {
		n, _, err = syscall.Recvfrom(int(fd), one, syscall.MSG_PEEK)
	}
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return false, true
	case err != nil || n == 0:
		return true, false
	}
	return false, false
}
