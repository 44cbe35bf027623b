// Package pid1 holds the program that runs as the first process of every
// sandbox: its source (src, some 600 lines of C without a C library), the
// script that builds it the same way every time (build.sh), and the built
// bytes, one file per architecture.
//
// It is a program of its own because the time to execute it is paid by each
// start: 0.2 ms for this one, 5 to 7 ms for a Go program of Dayfly's size.
package pid1

//go:generate ./build.sh

// Program gives the bytes of the program, a static ELF file for the
// architecture and Linux.
func Program() []byte { return program }
