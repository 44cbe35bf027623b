package main

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// hijack takes the connection of a request.
func hijack(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter) {
	c, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		log.Fatal(err)
	}
	return c, buf
}

// socket is a WebSocket (RFC 6455) that sends back what it gets: frames of up
// to 64 KiB, each a message.
func socket(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		http.Error(w, "this is a WebSocket", http.StatusUpgradeRequired)
		return
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	c, buf := hijack(w)
	defer c.Close()
	fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	for buf.Flush() == nil {
		head := make([]byte, 2)
		if _, err := io.ReadFull(buf, head); err != nil {
			fmt.Println("socket broke off:", err)
			return
		}
		size := int(head[1] & 0x7f)
		if size == 126 {
			long := make([]byte, 2)
			_ = must(io.ReadFull(buf, long))
			size = int(binary.BigEndian.Uint16(long))
		}
		rest := make([]byte, 4+size)
		_ = must(io.ReadFull(buf, rest))
		mask, data := rest[:4], rest[4:]
		for i := range data {
			data[i] ^= mask[i%4]
		}
		out := []byte{head[0], byte(size)}
		if size > 125 {
			out = binary.BigEndian.AppendUint16([]byte{head[0], 126}, uint16(size))
		}
		_, _ = buf.Write(append(out, data...))
		if head[0]&0x0f == 8 { // close
			_ = buf.Flush()
			fmt.Println("socket closed")
			return
		}
	}
}

// upgrade speaks the protocol shout: it sends lines back in capitals, and says
// how many there were when the other side has sent its last.
func upgrade(w http.ResponseWriter, r *http.Request) {
	c, buf := hijack(w)
	defer c.Close()
	protocol := "shout"
	if p := r.FormValue("to"); p != "" {
		protocol = p
	}
	// The first words come with the head.
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: "+protocol+"\r\nConnection: Upgrade\r\n\r\nwelcome\n")
	for n := 0; ; n++ {
		line, err := buf.ReadString('\n')
		if err == io.EOF {
			fmt.Fprintf(c, "%d lines\n", n)
			return
		}
		if err != nil {
			fmt.Println("upgraded connection broke off:", err)
			return
		}
		if line == "crash\n" {
			exit([]string{"9"})
		}
		_, _ = io.WriteString(c, strings.ToUpper(line))
	}
}

// events sends events, from the one after Last-Event-ID on, until the caller
// leaves: three at once, and no more.
func events(w http.ResponseWriter, r *http.Request) {
	last, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	w.Header().Set("Content-Type", "text/event-stream")
	for i := last + 1; i <= last+3; i++ {
		fmt.Fprintf(w, "id: %d\ndata: event %d\n\n", i, i)
		if err := http.NewResponseController(w).Flush(); err != nil {
			log.Fatal(err)
		}
	}
	<-r.Context().Done()
	fmt.Println("the caller left")
}

// trailers tells the trailers that it got, and sends some.
func trailers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum, X-Count")
	w.Header().Set("X-Sum", "in the header")
	body := must(io.ReadAll(r.Body))
	w.WriteHeader(http.StatusOK)
	tell(w, r.Trailer)
	w.Header().Set("X-Sum", "in the trailer")
	w.Header().Set("X-Count", strconv.Itoa(len(body)))
	w.Header().Set(http.TrailerPrefix+"X-Unannounced", "1")
	w.Header().Set(http.TrailerPrefix+"Set-Cookie", "a=b")
	w.Header().Set(http.TrailerPrefix+"Dayfly-Run-State", "forged")
}

// hints sends interim answers before the final one.
func hints(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusProcessing)
	w.Header().Set("Link", "</style.css>; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Del("Link")
	w.Header().Set("X-Final", "1")
	fmt.Fprintln(w, "at last")
}

// pump sends the body back while it comes.
func pump(w http.ResponseWriter, r *http.Request) {
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		log.Fatal(err)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r.Body}, make([]byte, 128<<10))
	fmt.Println("pumped", n, err)
}

// rpc answers each line of the body with one, as calls that stream both ways
// do, and says in the trailer how it went.
func rpc(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "Grpc-Status")
	w.Header().Set("Content-Type", "application/grpc+lines")
	talk(w, r)
	w.Header().Set("Grpc-Status", r.Header.Get("Te")+" "+strconv.Itoa(r.ProtoMajor))
}

// said answers with the bytes that it gets as its body, and closes the
// connection when its other end does, or at once when told so.
func said(w http.ResponseWriter, r *http.Request) {
	body := must(io.ReadAll(r.Body))
	c, _ := hijack(w)
	defer c.Close()
	_ = must(c.Write(body))
	if r.FormValue("close") == "" {
		_, _ = io.Copy(io.Discard, c)
	}
}
