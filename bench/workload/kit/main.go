// Command kit is the function of the contract fdk that is measured: net/http on
// the Unix socket of FN_LISTENER, made ready as the kits of the Fn Project do,
// and the answer of the workload hello.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// size is how long the body of an answer is, in bytes.
const size = 200

var body = []byte(strings.Repeat("hello, world. ", size)[:size-1] + "\n")

func main() {
	fmt.Fprintln(os.Stderr, serve(strings.TrimPrefix(os.Getenv("FN_LISTENER"), "unix:")))
	os.Exit(1)
}

func serve(path string) error {
	own := filepath.Join(filepath.Dir(path), "phony"+filepath.Base(path))
	l, err := net.Listen("unix", own)
	if err != nil {
		return err
	}
	if err := os.Chmod(own, 0o666); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Base(own), path); err != nil {
		return err
	}
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{"text/plain"}
		_, _ = w.Write(body) // a caller that left is its own affair
	}))
}
