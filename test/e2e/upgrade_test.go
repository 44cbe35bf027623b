package e2e_test

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// wire is a connection to the server on which a test says every byte.
type wire struct {
	net.Conn
	in *bufio.Reader
}

func (s *server) wire(t *testing.T) *wire {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &wire{Conn: c, in: bufio.NewReader(c)}
}

func (w *wire) say(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

// answer reads the head of an answer; its body is still to be read.
func (w *wire) answer(t *testing.T) *http.Response {
	t.Helper()
	got, err := http.ReadResponse(w.in, nil)
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	return got
}

// line reads a line of a protocol of our own.
func (w *wire) line(t *testing.T) string {
	t.Helper()
	line, err := w.in.ReadString('\n')
	if err != nil {
		t.Fatalf("after %q: %v", line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

// upgrade asks for another protocol and gives the answer.
func (w *wire) upgrade(t *testing.T, s *server, target, protocol string, fields ...string) *http.Response {
	t.Helper()
	head := "GET " + target + " HTTP/1.1\r\nHost: " + strings.TrimPrefix(s.url, "http://") +
		"\r\nConnection: keep-alive, Upgrade\r\nUpgrade: " + protocol + "\r\n"
	for _, f := range fields {
		head += f + "\r\n"
	}
	w.say(t, head+"\r\n")
	return w.answer(t)
}

// frame is a message of a WebSocket client, which is masked (RFC 6455, 5.2).
func frame(opcode byte, data []byte) []byte {
	out := []byte{0x80 | opcode}
	if len(data) > 125 {
		out = binary.BigEndian.AppendUint16(append(out, 0x80|126), uint16(len(data)))
	} else {
		out = append(out, 0x80|byte(len(data)))
	}
	mask := []byte{1, 2, 3, 4}
	out = append(out, mask...)
	for i, b := range data {
		out = append(out, b^mask[i%4])
	}
	return out
}

// message reads one of a WebSocket server.
func (w *wire) message(t *testing.T) (opcode byte, data []byte) {
	t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(w.in, head); err != nil {
		t.Fatal(err)
	}
	size := int(head[1])
	if size == 126 {
		long := make([]byte, 2)
		if _, err := io.ReadFull(w.in, long); err != nil {
			t.Fatal(err)
		}
		size = int(binary.BigEndian.Uint16(long))
	}
	data = make([]byte, size)
	if _, err := io.ReadFull(w.in, data); err != nil {
		t.Fatal(err)
	}
	return head[0] & 0x0f, data
}

const (
	textMessage  = 1
	closeMessage = 8
)

func TestWebSocket(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "socket", "f", "web")
	w := s.wire(t)
	key := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef"))
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	got := w.upgrade(t, s, "/f/socket/f/socket", "websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: "+key, "Origin: "+s.url)
	if got.StatusCode != 101 || got.Header.Get("Upgrade") != "websocket" || !strings.EqualFold(got.Header.Get("Connection"), "upgrade") ||
		got.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) {
		t.Fatalf("the handshake is answered %d %v", got.StatusCode, got.Header)
	}
	id := got.Header.Get(api.HeaderRunID)
	if s.runOf(t, id).State != api.StateRunning {
		t.Errorf("the run does not go on while the socket is open")
	}
	in, out := 0, 0
	for _, size := range []int{0, 1, 125, 126, 1000, 60_000} {
		data := make([]byte, size)
		_, _ = rand.Read(data)
		sent := frame(textMessage, data)
		w.say(t, string(sent))
		in += len(sent)
		code, back := w.message(t)
		if out += 2 + size; size > 125 {
			out += 2
		}
		if code != textMessage || string(back) != string(data) {
			t.Fatalf("a message of %d bytes came back as %d with %d bytes", size, code, len(back))
		}
	}
	w.say(t, string(frame(closeMessage, []byte{3, 232})))
	if code, _ := w.message(t); code != closeMessage {
		t.Errorf("the close is answered with %d", code)
	}
	if rest, err := io.ReadAll(w.in); err != nil || len(rest) > 0 {
		t.Errorf("after the close comes %q, %v", rest, err)
	}
	_ = w.Close()
	run := s.wantRun(t, id, api.StateSucceeded, "")
	if run.Status != 101 || int(run.BytesIn) != in+8 || int(run.BytesOut) != out+4 {
		t.Errorf("the run has status %d, %d bytes in (sent %d), %d out (got %d)", run.Status, run.BytesIn, in+8, run.BytesOut, out+4)
	}
	s.get(t, "/f/socket/f/hello").want(t, 200) // by the same instance
}

// Any protocol that the function takes is passed on; each side may say that it
// sends no more while the other goes on.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "upgrade", "f", "web")
	w := s.wire(t)
	got := w.upgrade(t, s, "/f/upgrade/f/upgrade", "h2c, shout, whisper/2")
	if got.StatusCode != 101 || got.Header.Get("Upgrade") != "shout" {
		t.Fatalf("it is answered %d %v", got.StatusCode, got.Header)
	}
	if line := w.line(t); line != "welcome" {
		t.Errorf("the first words are %q", line)
	}
	for i := range 3 {
		w.say(t, fmt.Sprintf("line %d\n", i))
		if line := w.line(t); line != fmt.Sprintf("LINE %d", i) {
			t.Errorf("got %q", line)
		}
	}
	if err := w.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if line := w.line(t); line != "3 lines" {
		t.Errorf("after the last line comes %q", line)
	}
	if rest, err := io.ReadAll(w.in); err != nil || len(rest) > 0 {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	run := s.wantRun(t, got.Header.Get(api.HeaderRunID), api.StateSucceeded, "")
	if run.BytesIn != 21 || run.BytesOut != 8+21+8 {
		t.Errorf("the run has %d bytes in and %d out", run.BytesIn, run.BytesOut)
	}
}

func TestUpgradesThatEndOtherwise(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "ends", "f", "web", "--timeout", "2s")
	s.create(t, "ends", "crash", "web")
	s.create(t, "ends", "long", "web", "--timeout", "1h")
	open := func(t *testing.T, name, query string) (*wire, string) {
		t.Helper()
		w := s.wire(t)
		got := w.upgrade(t, s, "/f/ends/"+name+"/upgrade"+query, "shout")
		if got.StatusCode != 101 {
			t.Fatalf("it is answered %d %v", got.StatusCode, got.Header)
		}
		w.line(t)
		return w, got.Header.Get(api.HeaderRunID)
	}
	closed := func(t *testing.T, w *wire) {
		t.Helper()
		if rest, _ := io.ReadAll(w.in); len(rest) > 0 {
			t.Errorf("%q comes after the end", rest)
		}
	}
	t.Run("timeout", func(t *testing.T) {
		t.Parallel()
		w, id := open(t, "f", "")
		closed(t, w)
		wantWords(t, s.wantRun(t, id, api.StateTimedOut, "timeout").Message, "2s", "timeout")
	})
	t.Run("the process ends", func(t *testing.T) {
		t.Parallel()
		w, id := open(t, "crash", "")
		w.say(t, "crash\n")
		closed(t, w)
		until(t, "the run has ended", patience, func() (api.Run, bool) { r := s.runOf(t, id); return r, r.State.Final() })
	})
	t.Run("the caller closes", func(t *testing.T) {
		t.Parallel()
		w, id := open(t, "long", "")
		_ = w.Close()
		s.wantRun(t, id, api.StateSucceeded, "")
	})
	t.Run("the caller breaks off", func(t *testing.T) {
		t.Parallel()
		w, id := open(t, "long", "")
		if err := w.Conn.(*net.TCPConn).SetLinger(0); err != nil { // a reset
			t.Fatal(err)
		}
		_ = w.Close()
		s.wantRun(t, id, api.StateCancelled, "client_gone")
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		w, id := open(t, "long", "")
		s.does(t, "run", "cancel", id)
		closed(t, w)
		s.wantRun(t, id, api.StateCancelled, "cancelled_by_user")
	})
	t.Run("another protocol", func(t *testing.T) {
		t.Parallel()
		w := s.wire(t)
		got := w.upgrade(t, s, "/f/ends/long/upgrade?to=whisper", "shout")
		if got.StatusCode != 502 || got.Header.Get(api.HeaderError) != "function_error" {
			t.Errorf("it is answered %d %v", got.StatusCode, got.Header)
		}
	})
	t.Run("nobody asked", func(t *testing.T) {
		t.Parallel()
		s.get(t, "/f/ends/long/upgrade").problem(t, 502, "function_error", "101", "nobody asked")
	})
	t.Run("not taken", func(t *testing.T) {
		t.Parallel()
		w := s.wire(t)
		if got := w.upgrade(t, s, "/f/ends/long/hello", "websocket"); got.StatusCode != 200 || got.Header.Get("Upgrade") != "" {
			t.Errorf("it is answered %d %v", got.StatusCode, got.Header)
		}
	})
}

// A page of another origin cannot open a WebSocket to this server with the
// rights of whoever looks at it.
func TestWebSocketOfAnotherOrigin(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "origin", "f", "web")
	for _, field := range []string{
		"Origin: https://evil.example", "Origin: null", "Origin: http://127.0.0.1:1", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site",
	} {
		got := s.wire(t).upgrade(t, s, "/f/origin/f/socket", "websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", field)
		if got.StatusCode != 403 || got.Header.Get(api.HeaderError) != "forbidden" || got.Header.Get(api.HeaderRunID) != "" {
			t.Errorf("with %s it is answered %d %v", field, got.StatusCode, got.Header)
		}
	}
	if list := s.runs(t, "app=origin"); len(list) > 0 {
		t.Errorf("runs were made: %+v", list)
	}
}

// A server that stops does not wait for connections that were switched.
func TestStopEndsUpgrades(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	loadMisbehave(t, s)
	s.create(t, "stop", "f", "web", "--timeout", "1h")
	w := s.wire(t)
	if got := w.upgrade(t, s, "/f/stop/f/upgrade", "shout"); got.StatusCode != 101 {
		t.Fatalf("it is answered %d", got.StatusCode)
	}
	w.line(t)
	began := time.Now()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if rest, _ := io.ReadAll(w.in); len(rest) > 0 {
		t.Errorf("%q comes after the end", rest)
	}
}
