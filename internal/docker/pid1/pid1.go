// Package pid1 holds the program that runs as the first process of every
// container of the docker driver: its source (src, some 600 lines of C without
// a C library, on the header that package sandbox/pid1 has), the script that
// builds it the same way every time (build.sh), and the built bytes, one file
// per architecture: an engine may be on another machine than the server.
package pid1

import _ "embed"

//go:generate ./build.sh

//go:embed init_amd64
var amd64 []byte

//go:embed init_arm64
var arm64 []byte

// Program gives the bytes of the program, a static ELF file for Linux on an
// architecture as Go names it; nil for one that it is not built for.
func Program(arch string) []byte {
	switch arch {
	case "amd64":
		return amd64
	case "arm64":
		return arm64
	}
	return nil
}
