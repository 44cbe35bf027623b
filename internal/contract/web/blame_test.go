package web_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/contract/web"
	"github.com/dayfly-io/dayfly/internal/core"
)

// endlessBody is one whose reader waits, until it is made to give up. Then its
// caller's context ends, as net/http's does.
type endlessBody struct {
	cancel  context.CancelFunc
	reading chan struct{}
	stopped chan struct{}
}

func (b *endlessBody) Read([]byte) (int, error) {
	close(b.reading)
	<-b.stopped
	return 0, errors.New("i/o timeout")
}

func (b *endlessBody) SetReadDeadline(t time.Time) error {
	if !t.IsZero() && t.Before(time.Now()) {
		b.cancel()
		close(b.stopped)
	}
	return nil
}

// A function that breaks the connection while its caller still sends has done
// so itself: that the sending is ended then is not the caller's leaving.
func TestFunctionThatBreaksOffIsNotTakenForItsCaller(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	body := &endlessBody{cancel: cancel, reading: make(chan struct{}), stopped: make(chan struct{})}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		<-body.reading
		_ = c.Close()
	}()
	call := newCall("PUT", "/", "")
	call.Request.Body, call.Request.Length = body, 1<<20
	o := web.New(dialTo(l.Addr().String()), web.Options{}).Serve(ctx, call, newRecorder())
	if ctx.Err() == nil {
		t.Fatal("the sending was not ended")
	}
	if o.State != core.StateFailed || o.Reason != core.ReasonFunctionError || !o.Kill {
		t.Errorf("the outcome is %+v", o)
	}
}
