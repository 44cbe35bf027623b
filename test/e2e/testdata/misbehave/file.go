package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// file reads the file path, or writes the body to it. What does not work is
// answered with 409.
func file(w http.ResponseWriter, r *http.Request) {
	path := r.FormValue("path")
	if r.Method == http.MethodGet {
		b, err := os.ReadFile(path)
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		_, _ = w.Write(b)
		return
	}
	f, err := os.Create(path)
	if err == nil {
		_, err = io.Copy(f, r.Body)
		if closed := f.Close(); err == nil {
			err = closed
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	fmt.Fprintln(w, "written")
}

// feed has a child eat until something stops it, and tells how that ended.
func feed(w io.Writer) {
	child := exec.Command("/proc/self/exe", "eat")
	fmt.Fprintln(w, "the child:", child.Run())
}

// burn uses a processor for a while.
func burn(span string) {
	d, err := time.ParseDuration(span)
	for began := time.Now(); err == nil && time.Since(began) < d; {
		runtime.KeepAlive(began)
	}
}

// touch uses so many MiB of memory for a moment.
func touch(mib int) {
	b := make([]byte, mib<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	runtime.KeepAlive(b)
}
