// Command kit is a function of the contract fdk, written against the protocol
// and not with a kit of the Fn Project. It answers with what it got; a JSON
// body can ask it to misbehave in every way that Fn's own test image does
// (fn: images/fn-test-utils).
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	if v := os.Getenv("ENABLE_INIT_DELAY_MSEC"); v != "" {
		<-time.After(must(time.ParseDuration(v + "ms")))
	}
	if v := os.Getenv("FN_FORMAT"); v != "http-stream" {
		log.Fatalf("kit: the format is %q", v)
	}
	path, ok := strings.CutPrefix(os.Getenv("FN_LISTENER"), "unix:")
	if !ok {
		log.Fatalf("kit: the listener is %q", os.Getenv("FN_LISTENER"))
	}
	server := &http.Server{Handler: http.HandlerFunc(handle)} //nolint:gosec // it has one caller
	shutdown = func() { check(server.Close()) }
	if err := server.Serve(listen(path)); err != nil {
		log.Println("kit:", err)
	}
}

// listen makes the socket under another name, and lets the server see it only
// when everybody may connect to it.
func listen(path string) net.Listener {
	own := filepath.Join(filepath.Dir(path), "phony"+filepath.Base(path))
	l := must(net.Listen("unix", own))
	check(os.Chmod(own, 0o666))
	check(os.Symlink(filepath.Base(own), path))
	return l
}

func handle(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/call" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	mark(r)
	w.Header().Set("Fn-Fdk-Version", "kit/1")
	w.Header().Set("Fn-Fdk-Runtime", "go")
	behave(w, r)
}

// mark says in both streams where the log of this call begins.
func mark(r *http.Request) {
	name, header := os.Getenv("FN_LOGFRAME_NAME"), os.Getenv("FN_LOGFRAME_HDR")
	if name == "" || header == "" {
		return
	}
	if id := r.Header.Get(header); id != "" {
		fmt.Fprintf(os.Stdout, "\n%s=%s\n", name, id)
		fmt.Fprintf(os.Stderr, "\n%s=%s\n", name, id)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		log.Fatal("kit: ", err)
	}
}
