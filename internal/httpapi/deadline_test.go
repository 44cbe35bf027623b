package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

type deadliner interface {
	SetReadDeadline(t time.Time) error
}

// A caller that does not send what it has announced is not waited for longer
// than the call may take.
func TestBodyThatDoesNotComeMeetsTheDeadline(t *testing.T) {
	t.Parallel()
	got := make(chan error, 1)
	f := &ports{}
	f.call = func(_ context.Context, _ core.Principal, _, _ string, req *core.Request, _ core.RunReply) (core.Run, error) {
		body, ok := req.Body.(deadliner)
		if !ok {
			got <- errors.New("the body has no deadlines")
			return core.Run{}, nil
		}
		err := body.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if err == nil {
			_, err = io.ReadAll(req.Body)
		}
		got <- err
		return core.Run{}, core.Errorf(core.KindTimeout, core.ReasonTimeout, "late")
	}
	url := serve(t, f)
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /f/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nfour"); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading the body gave %v", err)
	}
}

// A caller that does not read its answer is not waited for either.
func TestAnswerThatIsNotReadMeetsTheDeadline(t *testing.T) {
	t.Parallel()
	got := make(chan error, 1)
	f := &ports{}
	f.call = func(_ context.Context, _ core.Principal, _, _ string, _ *core.Request, reply core.RunReply) (core.Run, error) {
		w, ok := reply.(interface{ SetWriteDeadline(t time.Time) error })
		if !ok {
			got <- errors.New("the reply has no deadlines")
			return core.Run{}, nil
		}
		err := w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		for piece := make([]byte, 1<<20); err == nil; {
			_, err = reply.Write(piece)
		}
		got <- err
		return core.Run{}, err
	}
	url := serve(t, f)
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /f/a/b HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing the answer gave %v", err)
	}
}

// The deadlines of a call do not outlive it: the connection serves on.
func TestDeadlinesEndWithTheCall(t *testing.T) {
	t.Parallel()
	var at time.Time
	f := &ports{}
	f.call = func(_ context.Context, _ core.Principal, _, _ string, req *core.Request, reply core.RunReply) (core.Run, error) {
		if at.IsZero() {
			at = time.Now().Add(50 * time.Millisecond)
			for _, err := range []error{
				req.Body.(deadliner).SetReadDeadline(at),
				reply.(interface{ SetWriteDeadline(t time.Time) error }).SetWriteDeadline(at),
			} {
				if err != nil {
					t.Error(err)
				}
			}
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		_, err = reply.Write(body)
		return core.Run{}, err
	}
	url := serve(t, f)
	// Its own connections: a test server that closes takes the idle ones of
	// the default client with it, whosever they are.
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	for i, want := range []string{"first", "second"} {
		reused := false
		trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }}
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodPost, url+"/f/a/b", strings.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		_, err = got.ReadFrom(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil || got.String() != want {
			t.Errorf("call %d gave %q, %v", i+1, got.String(), err)
		}
		if reused != (i == 1) {
			t.Errorf("call %d: reused is %v", i+1, reused)
		}
		<-time.After(time.Until(at) + 20*time.Millisecond)
	}
}
