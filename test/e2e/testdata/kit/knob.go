package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// order is what a body can ask for; the names are those of Fn's test image.
type order struct {
	EchoContent         string              `json:"echoContent"`
	ResponseCode        int                 `json:"responseCode"`
	ResponseContentType string              `json:"responseContentType"`
	ReturnHeaders       map[string][]string `json:"returnHeaders"`
	ExpectHeaders       map[string][]string `json:"expectHeaders"`
	SleepTime           int                 `json:"sleepTime"`     // ms, before the answer
	PostSleepTime       int                 `json:"postSleepTime"` // ms, after it
	PostOutGarbage      int                 `json:"postOutGarbage"`
	PostErrGarbage      int                 `json:"postErrGarbage"`
	IsDebug             bool                `json:"isDebug"`
	IsCrash             bool                `json:"isCrash"`
	IsExit              bool                `json:"isExit"`
	ExitCode            int                 `json:"exitCode"`
	IsShutdown          bool                `json:"isShutdown"`
	IsEmptyBody         bool                `json:"isEmptyBody"`
	InvalidResponse     bool                `json:"invalidResponse"`
	TrailerRepeat       int                 `json:"trailerRepeat"`
	ReadFile            string              `json:"readFile"`
	ReadFileSize        int64               `json:"readFileSize"`
	CreateFile          string              `json:"createFile"`
	CreateFileSize      int                 `json:"createFileSize"`
	AllocateMemory      int                 `json:"allocateMemory"`
	LeakMemory          int                 `json:"leakMemory"`
	// WireStatus is the status that the process itself answers.
	WireStatus int `json:"wireStatus"`
}

// echo is what is answered.
type echo struct {
	Header  http.Header
	Body    string
	Chunked bool
	Echo    string   `json:",omitempty"`
	Read    int64    `json:",omitempty"`
	Error   string   `json:",omitempty"`
	Env     []string `json:",omitempty"`
	User    [2]int
}

var (
	leak     [][]byte
	shutdown func()
)

func behave(w http.ResponseWriter, r *http.Request) {
	body := must(io.ReadAll(r.Body))
	var o order
	if len(body) > 0 && body[0] == '{' {
		check(json.Unmarshal(body, &o))
	}
	out := echo{Header: r.Header, Body: string(body), Chunked: slices.Contains(r.TransferEncoding, "chunked"), Echo: o.EchoContent, User: [2]int{os.Getuid(), os.Getgid()}}
	if o.IsDebug {
		out.Env = os.Environ()
		log.Println("debug: it got", len(body), "bytes")
	}
	pause(o.SleepTime)
	before(&o, &out, r)
	switch {
	case o.InvalidResponse:
		hijacked, _, err := w.(http.Hijacker).Hijack()
		check(err)
		_, err = io.WriteString(hijacked, "this is no HTTP\r\n\r\n")
		check(err)
		check(hijacked.Close())
		return
	case o.IsShutdown:
		defer func() { go shutdown() }()
	}
	answer(w, r, &o, out)
	after(&o)
}

// before does what comes before the answer.
func before(o *order, out *echo, r *http.Request) {
	switch {
	case o.IsCrash:
		log.Fatal("kit: I was told to crash")
	case o.IsExit || o.ExitCode != 0:
		os.Exit(o.ExitCode)
	}
	for name, want := range o.ExpectHeaders {
		if got := r.Header.Values(name); !slices.Equal(got, want) {
			out.Error = fmt.Sprintf("the field %s is %q", name, got)
		}
	}
	if o.ReadFile != "" {
		f, err := os.Open(o.ReadFile)
		if err == nil {
			out.Read, err = io.Copy(io.Discard, io.LimitReader(f, max(o.ReadFileSize, 1<<20)))
		}
		out.fail(err)
	}
	if o.CreateFile != "" {
		out.fail(os.WriteFile(o.CreateFile, make([]byte, o.CreateFileSize), 0o600))
	}
	if o.AllocateMemory > 0 {
		fill(o.AllocateMemory)
	}
	if o.LeakMemory > 0 {
		leak = append(leak, fill(o.LeakMemory))
	}
}

func (e *echo) fail(err error) {
	if err != nil {
		e.Error = err.Error()
	}
}

// fill takes memory, and has the kernel give it.
func fill(n int) []byte { return bytes.Repeat([]byte("x"), n) }

func answer(w http.ResponseWriter, r *http.Request, o *order, out echo) {
	h := w.Header()
	prefix := ""
	if r.Header.Get("Fn-Intent") == "httprequest" {
		prefix = "Fn-Http-H-"
		if o.ResponseCode != 0 {
			h.Set("Fn-Http-Status", strconv.Itoa(o.ResponseCode))
		}
	}
	for name, values := range o.ReturnHeaders {
		h[http.CanonicalHeaderKey(prefix+name)] = values
	}
	for i := range o.TrailerRepeat {
		h.Set(http.TrailerPrefix+"Trailer-"+strconv.Itoa(i), strings.Repeat("t", 100))
	}
	h.Set("Content-Type", "application/json")
	if o.ResponseContentType != "" {
		h.Set("Content-Type", o.ResponseContentType)
	}
	data := must(json.Marshal(out))
	if o.IsEmptyBody {
		data = nil
	}
	if o.TrailerRepeat == 0 {
		h.Set("Content-Length", strconv.Itoa(len(data)))
	}
	if o.WireStatus != 0 {
		w.WriteHeader(o.WireStatus)
	}
	_, _ = w.Write(data)
	_ = http.NewResponseController(w).Flush()
}

// after does what comes after the answer.
func after(o *order) {
	pause(o.PostSleepTime)
	garbage := func(n int) []byte { return append(bytes.Repeat([]byte("garbage after the answer "), n), '\n') }
	if o.PostOutGarbage > 0 {
		_, _ = os.Stdout.Write(garbage(o.PostOutGarbage))
	}
	if o.PostErrGarbage > 0 {
		_, _ = os.Stderr.Write(garbage(o.PostErrGarbage))
	}
}

func pause(ms int) {
	if ms > 0 {
		<-time.After(time.Duration(ms) * time.Millisecond)
	}
}
