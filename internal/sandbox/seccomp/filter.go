package seccomp

import (
	"errors"
	"fmt"
	"runtime"
)

// InstructionSize is the size of one struct sock_filter in bytes (include/uapi/linux/filter.h): the filter's length
// divided by it is the len field of struct sock_fprog.
const InstructionSize = 8

// Filter returns the filter of the architecture this program was built for, as the array of struct sock_filter that
// struct sock_fprog points to. Each call returns a copy of its own. The error wraps errors.ErrUnsupported when there is
// no filter for the architecture; nothing may then be run, since an unfiltered sandbox is none.
func Filter() ([]byte, error) {
	if embedded == "" {
		return nil, fmt.Errorf("seccomp filter for %s: %w", runtime.GOARCH, errors.ErrUnsupported)
	}
	return []byte(embedded), nil
}
