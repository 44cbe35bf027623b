// Command misbehave is what the end-to-end tests run in containers. The first
// argument says how it behaves; without one, the environment variable MODE.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		args = strings.Fields(os.Getenv("MODE"))
	}
	if len(args) == 0 {
		log.Fatal("misbehave: say how")
	}
	behave, ok := map[string]func([]string){
		// web servers
		"web":  func([]string) { serve() },
		"deaf": func([]string) { ignoreTerm(); serve() },
		// impatient closes a connection on which nothing came for so long.
		"impatient": func(a []string) { serveFor(must(time.ParseDuration(a[0]))) },
		"mortal":    func(a []string) { go func() { wait(a[0]); os.Exit(3) }(); serve() },
		"late":      func(a []string) { wait(a[0]); serve() },
		"never":     func([]string) { fmt.Println("I have better things to do"); forever() },
		// jobs
		"cat":   func([]string) { must(io.Copy(os.Stdout, os.Stdin)) },
		"print": func(a []string) { fmt.Print(strings.Join(a, " ")) },
		"zeros": zeros,
		"env":   func([]string) { tell(os.Stdout, os.Environ()) },
		"args":  func(a []string) { tell(os.Stdout, a) },
		"exit":  exit,
		"hang":  hang,
		"stuck": func(a []string) { ignoreTerm(); hang(a) },
		"flood": flood,
		"eat":   func([]string) { eat() },
		"fork":  func([]string) { tell(os.Stdout, forkBomb()) },
		"feed":  func([]string) { feed(os.Stdout) },
		"burn":  func(a []string) { burn(a[0]) },
		"steps": steps,
		"dial":  dial,
		"sleep": func([]string) { forever() },
	}[args[0]]
	if !ok {
		log.Fatalf("misbehave: I do not know how to %q", args[0])
	}
	behave(args[1:])
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func tell(w io.Writer, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		log.Print(err)
	}
}

// forever keeps the process alive without the runtime calling it a deadlock.
func forever() {
	for {
		wait("1h")
	}
}

func wait(d string) { <-time.After(must(time.ParseDuration(d))) }

func ignoreTerm() { signal.Ignore(syscall.SIGTERM) }

// exit prints lines, the last of them known, and exits with a code.
func exit(a []string) {
	for i := range 20 {
		fmt.Fprintln(os.Stderr, "line", i)
	}
	fmt.Fprintln(os.Stderr, "my last words")
	os.Exit(must(strconv.Atoi(a[0])))
}

// hang prints its arguments, and then does nothing.
func hang(a []string) {
	fmt.Println(strings.Join(a, " "))
	fmt.Fprintln(os.Stderr, "hanging")
	forever()
}

// flood prints lines to stderr: a number of bytes of them.
func flood(a []string) {
	w := bufio.NewWriter(os.Stderr)
	writeLines(w, must(strconv.Atoi(a[0])))
	if err := w.Flush(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("done")
}

// zeros prints a number of zero bytes to stdout.
func zeros(a []string) { writeZeros(os.Stdout, must(strconv.ParseInt(a[0], 10, 64))) }

// writeLines writes numbered lines of 100 bytes, n bytes in all.
func writeLines(w io.Writer, n int) {
	for i := range n / 100 {
		line := fmt.Sprintf("%08d %s\n", i, strings.Repeat("x", 90))
		if _, err := io.WriteString(w, line); err != nil {
			log.Fatal(err)
		}
	}
}

func writeZeros(w io.Writer, n int64) {
	block := make([]byte, 64<<10)
	for n > 0 {
		m, err := w.Write(block[:min(n, int64(len(block)))])
		if err != nil {
			return
		}
		n -= int64(m)
	}
}

// eat takes memory until something stops it.
func eat() {
	fmt.Fprintln(os.Stderr, "eating")
	var eaten [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = byte(i)
		}
		eaten = append(eaten, b)
	}
}

type forked struct {
	Started int    `json:"started"`
	Error   string `json:"error"`
}

// forkBomb starts copies of itself until it is refused, and ends them.
func forkBomb() forked {
	var children []*exec.Cmd
	var out forked
	for {
		c := exec.Command("/proc/self/exe", "sleep")
		if err := c.Start(); err != nil {
			out.Error = err.Error()
			break
		}
		children = append(children, c)
		if len(children) > 4096 {
			out.Error = "nothing stopped me"
			break
		}
	}
	out.Started = len(children)
	for _, c := range children {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	return out
}

// steps tells of its progress, a step for each of its arguments, which say
// how long the step takes.
func steps(a []string) {
	for i, d := range a {
		fmt.Fprintf(os.Stderr, "::progress %d step %d\n", (i+1)*100/len(a), i+1)
		wait(d)
	}
	fmt.Println("all steps done")
}

// paths are the ways in which the web server behaves; it echoes at any other.
// They are no ServeMux, which would tidy paths up.
var paths = map[string]http.HandlerFunc{
	"/env":   func(w http.ResponseWriter, _ *http.Request) { tell(w, os.Environ()) },
	"/hello": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello", os.Getenv("WHO")) },
	"/status": func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(number(r, "code"))
		fmt.Fprintln(w, "as you asked")
	},
	"/sink": sink,
	"/talk": talk,
	"/big":  func(w http.ResponseWriter, r *http.Request) { writeZeros(w, int64(number(r, "bytes"))) },
	"/slow": func(w http.ResponseWriter, r *http.Request) {
		wait(r.FormValue("for"))
		fmt.Fprintln(w, "at last")
	},
	"/hang": func(http.ResponseWriter, *http.Request) {
		fmt.Println("hanging")
		forever()
	},
	"/log": func(w http.ResponseWriter, r *http.Request) {
		writeLines(os.Stdout, number(r, "bytes"))
		fmt.Fprintln(w, "logged")
	},
	"/exit":  func(http.ResponseWriter, *http.Request) { exit([]string{"7"}) },
	"/eat":   func(http.ResponseWriter, *http.Request) { eat() },
	"/fork":  func(w http.ResponseWriter, _ *http.Request) { tell(w, forkBomb()) },
	"/file":  file,
	"/feed":  func(w http.ResponseWriter, _ *http.Request) { feed(w) },
	"/burn":  func(_ http.ResponseWriter, r *http.Request) { burn(r.FormValue("for")) },
	"/touch": func(w http.ResponseWriter, r *http.Request) { touch(number(r, "mib")) },
	"/kill": func(http.ResponseWriter, *http.Request) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		forever()
	},

	"/socket":   socket,
	"/upgrade":  upgrade,
	"/events":   events,
	"/trailers": trailers,
	"/hints":    hints,
	"/pump":     pump,
	"/refuse": func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "too much", http.StatusRequestEntityTooLarge)
	},
	"/rpc": rpc,
	"/raw": said,

	"/half":    raw("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nthe first part of it"),
	"/chunk":   raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"),
	"/nothing": raw(""),
	"/garbage": raw("SSH-2.0-OpenSSH_9.2p1 Debian\r\n\r\n"),
	"/headers": hijacked(func(c net.Conn) {
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		for i := 0; err == nil; i++ {
			_, err = fmt.Fprintf(c, "X-%d: %s\r\n", i, strings.Repeat("y", 1000))
		}
	}),
}

// raw answers with bytes, and closes the connection.
func raw(answer string) http.HandlerFunc {
	return hijacked(func(c net.Conn) { _, _ = io.WriteString(c, answer) })
}

func hijacked(answer func(net.Conn)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			log.Fatal(err)
		}
		answer(c)
		_ = c.Close()
	}
}

// dial tells whether it can connect to the address that it is given on stdin.
func dial([]string) {
	address := strings.TrimSpace(string(must(io.ReadAll(os.Stdin))))
	c, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		fmt.Println("failed:", err)
		return
	}
	_ = c.Close()
	fmt.Println("connected")
}

// serve is a web server, on loopback only: the server enters the sandbox.
func serve() { serveFor(0) }

// serveFor closes connections that are idle for so long; 0 never.
func serveFor(idle time.Duration) {
	s := http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), IdleTimeout: idle}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := paths[r.URL.Path]; f != nil {
			f(w, r)
			return
		}
		echo(w, r)
	})
	log.Fatal(s.ListenAndServe())
}

func number(r *http.Request, name string) int { return must(strconv.Atoi(r.FormValue(name))) }

type echoed struct {
	Method, Path, Query, Host, Body string
	Header                          http.Header
}

func echo(w http.ResponseWriter, r *http.Request) {
	fmt.Println("echoing", r.Method, r.URL.EscapedPath())
	fmt.Fprintln(os.Stderr, "to stderr")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Own", "mine")
	tell(w, echoed{
		Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Host: r.Host,
		Header: r.Header, Body: string(must(io.ReadAll(r.Body))),
	})
}

// sink counts a body without keeping it.
func sink(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	fmt.Fprintln(w, n, err)
}

// talk answers each line of the body as soon as it has come.
func talk(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	if err := c.EnableFullDuplex(); err != nil {
		log.Fatal(err)
	}
	in := bufio.NewReader(r.Body)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		fmt.Fprintf(w, "you said %s", line)
		if err := c.Flush(); err != nil {
			return
		}
	}
}
