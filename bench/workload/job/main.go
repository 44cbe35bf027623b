// Command job is the job that is measured: it prints 200 bytes and ends.
package main

import (
	"os"
	"strings"
)

// size is how much it prints, in bytes.
const size = 200

func main() {
	if _, err := os.Stdout.WriteString(strings.Repeat("hello, world. ", size)[:size-1] + "\n"); err != nil {
		os.Exit(1)
	}
}
