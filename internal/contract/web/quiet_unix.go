//go:build unix

package web

import "syscall"

// probe reads from the connection without waiting. On one that is idle and
// good there is nothing to read; an end, an error or data mean that it must
// not be used.
func (cn *conn) probe(fd uintptr) bool {
	n, err := syscall.Read(int(fd), cn.one[:])
	cn.silent = n < 0 && err == syscall.EAGAIN
	return true
}
