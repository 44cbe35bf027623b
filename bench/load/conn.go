package load

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Request encodes a request without a body.
func Request(method, path, host string) []byte {
	return []byte(method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 0\r\n\r\n")
}

// Answer is an answer. Its bytes are valid until the next call on the same
// connection.
type Answer struct {
	// First is the time from before the request was written until the first
	// byte of the answer was there, Total until its last.
	First, Total time.Duration
	Status       int
	header       []byte
	Body         []byte
}

// Header gives the value of the first field of the name, "" for none.
func (a *Answer) Header(name string) string {
	for l := range bytes.SplitSeq(a.header, []byte("\r\n")) {
		key, value, ok := strings.Cut(string(l), ":")
		if ok && strings.EqualFold(key, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Conn is a connection that is kept. It reads answers with a Content-Length,
// which is all that the workloads give.
type Conn struct {
	net.Conn
	buf []byte
}

// timeout bounds one request.
const timeout = 60 * time.Second

// Dial connects to an address.
func Dial(address string) (*Conn, error) {
	c, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return New(c), nil
}

// New takes over a connection.
func New(c net.Conn) *Conn { return &Conn{Conn: c, buf: make([]byte, 16<<10)} }

// Do makes a request and reads its answer.
func (c *Conn) Do(request []byte) (Answer, error) {
	var a Answer
	began := time.Now()
	if err := c.SetDeadline(began.Add(timeout)); err != nil {
		return a, fmt.Errorf("limit the time of a request: %w", err)
	}
	if _, err := c.Write(request); err != nil {
		return a, fmt.Errorf("send a request: %w", err)
	}
	n, err := c.Read(c.buf)
	if err != nil {
		return a, fmt.Errorf("read an answer: %w", err)
	}
	a.First = time.Since(began)
	head := bytes.Index(c.buf[:n], []byte("\r\n\r\n"))
	for head < 0 {
		if n, err = c.more(n); err != nil {
			return a, err
		}
		head = bytes.Index(c.buf[:n], []byte("\r\n\r\n"))
	}
	a.header = c.buf[:head]
	length, err := a.parse()
	if err != nil {
		return a, err
	}
	end := head + 4 + length
	for n < end {
		if n, err = c.more(n); err != nil {
			return a, err
		}
	}
	if n > end {
		return a, errors.New("read an answer: there is more than its Content-Length says")
	}
	a.Total = time.Since(began)
	a.header, a.Body = c.buf[:head], c.buf[head+4:end]
	return a, nil
}

// more reads on behind n bytes.
func (c *Conn) more(n int) (int, error) {
	if n == len(c.buf) {
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	m, err := c.Read(c.buf[n:])
	if err != nil {
		return n, fmt.Errorf("read an answer: %w", err)
	}
	return n + m, nil
}

var contentLength = []byte("\r\nContent-Length: ")

// parse reads the status and gives the length of the body.
func (a *Answer) parse() (int, error) {
	if len(a.header) < 12 || !bytes.HasPrefix(a.header, []byte("HTTP/1.1 ")) {
		return 0, fmt.Errorf("read an answer: it begins %.40q", a.header)
	}
	var err error
	if a.Status, err = strconv.Atoi(string(a.header[9:12])); err != nil {
		return 0, fmt.Errorf("read an answer: its status: %w", err)
	}
	i := bytes.Index(a.header, contentLength)
	if i < 0 {
		return 0, fmt.Errorf("read an answer of status %d: it has no Content-Length", a.Status)
	}
	value := a.header[i+len(contentLength):]
	if j := bytes.IndexByte(value, '\r'); j >= 0 {
		value = value[:j]
	}
	n, err := strconv.Atoi(string(value))
	if err != nil {
		return 0, fmt.Errorf("read an answer: its Content-Length: %w", err)
	}
	return n, nil
}
