// Command hello is the web server that is measured: net/http and an answer of
// 200 bytes. It listens on $PORT, on all addresses.
package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
)

// size is how long the body of an answer is, in bytes.
const size = 200

var body = []byte(strings.Repeat("hello, world. ", size)[:size-1] + "\n")

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	err := http.ListenAndServe(":"+port, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{"text/plain"}
		_, _ = w.Write(body) // a client that left is its own affair
	}))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
