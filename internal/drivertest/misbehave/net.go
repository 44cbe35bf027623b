package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// dialAll connects to addresses and prints, as JSON, what each has answered to
// a line, or the error.
func dialAll(args []string) {
	out := map[string]string{}
	for _, to := range args {
		out[to] = dial(to)
	}
	say(out)
}

func dial(to string) string {
	c, err := net.DialTimeout("tcp", to, 3*time.Second)
	if err != nil {
		return "error: " + err.Error()
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "error: " + err.Error()
	}
	if _, err := io.WriteString(c, "mayfly\n"); err != nil {
		return "error: " + err.Error()
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "error: " + err.Error()
	}
	return strings.TrimSpace(line)
}

// lookup NAME prints the addresses of a host.
func lookup(args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	say(must(new(net.Resolver).LookupHost(ctx, args[0])))
}

// serve ADDRESS [after DURATION] [flood] is a web server that behaves by path:
//
//	/            answers "hello"
//	/print/TEXT  prints the text on stdout and stderr, then answers
//	/dial/ADDR   prints what dial gives for the address
//	/exit        exits with code 4
//	/close       closes the connection in the middle of an answer
//	/garbage     answers what is no HTTP
//	/headers     writes header fields without end
//	/hang        never answers
//
// ADDRESS is host:port; eth0 as host is the address of that link, and PORT as
// port that variable.
func serve(args []string) {
	address := strings.Replace(args[0], "PORT", os.Getenv("PORT"), 1)
	if rest, ok := strings.CutPrefix(address, "eth0"); ok {
		address = own() + rest
	}
	for i := 1; i < len(args); i++ {
		switch args[i] {
		case "after":
			time.Sleep(must(time.ParseDuration(args[i+1])))
			i++
		case "flood":
			go flood(nil)
		}
	}
	l := must(net.Listen("tcp", address))
	fmt.Println("listening on", l.Addr())
	for {
		go answer(must(l.Accept()))
	}
}

func own() string {
	link := must(net.InterfaceByName("eth0"))
	for _, a := range must(link.Addrs()) {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	fail("eth0 has no address")
	return ""
}

func answer(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		for l := line; l != "\r\n" && l != "\n"; {
			if l, err = in.ReadString('\n'); err != nil {
				return
			}
		}
		if !respond(c, strings.Fields(line)[1]) {
			return
		}
	}
}

func respond(c net.Conn, path string) (more bool) {
	body := "hello"
	switch {
	case strings.HasPrefix(path, "/print/"):
		fmt.Println(path[len("/print/"):])
		fmt.Fprintln(os.Stderr, path[len("/print/"):])
	case strings.HasPrefix(path, "/dial/"):
		fmt.Println(dial(path[len("/dial/"):]))
	case path == "/exit":
		fmt.Fprintln(os.Stderr, "it exits")
		os.Exit(4)
	case path == "/close":
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		return false
	case path == "/garbage":
		_, _ = io.WriteString(c, "\x00\xff this is no HTTP \r\n\r\n\r\n")
		return false
	case path == "/headers":
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		for i := 0; err == nil; i++ {
			_, err = fmt.Fprintf(c, "X-Field-%d: %s\r\n", i, strings.Repeat("x", 1000))
		}
		return false
	case path == "/hang":
		select {}
	}
	_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	return err == nil
}
