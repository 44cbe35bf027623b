package web_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

func TestTrailersOfRequests(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		announced, trailer core.Header
		length             int64
		head, end          string
	}{
		{trailer: core.Header{"X-Sum": {"1"}}, length: -1, end: "0\r\nX-Sum: 1\r\n\r\n"},
		{announced: core.Header{"X-B": nil, "X-A": nil}, trailer: core.Header{"X-B": {"2"}, "X-A": {"1", "3"}}, length: -1, head: "Trailer: X-A, X-B\r\n", end: "0\r\nX-A: 1\r\nX-A: 3\r\nX-B: 2\r\n\r\n"},
		// HTTP/2 has lengths and trailers; HTTP/1.1 has to choose.
		{announced: core.Header{"X-A": nil}, trailer: core.Header{"X-A": {"1"}}, length: 5, head: "Trailer: X-A\r\n", end: "0\r\nX-A: 1\r\n\r\n"},
		{
			announced: core.Header{"Content-Length": nil, "Dayfly-Run-Id": nil},
			trailer:   core.Header{"Content-Length": {"1"}, "Transfer_encoding": {"x"}, "Host": {"x"}, "Dayfly_Run-Id": {"x"}, "X Y": {"1"}, "X-Z": {"a\r\nb"}, "": {"1"}},
			length:    -1, end: "0\r\n\r\n",
		},
		{length: -1, end: "0\r\n\r\n"},
	} {
		call := newCall("POST", "/", "hello")
		call.Request.Length = tc.length
		body := strings.NewReader("hello")
		call.Request.Body = body
		call.Request.Trailer = func() core.Header {
			if body.Len() > 0 {
				return tc.announced
			}
			return tc.trailer
		}
		f := newFunction(t, func(_ int64, p *peer) {
			var sent strings.Builder
			for !strings.Contains(sent.String(), "\r\n0\r\n") || !strings.HasSuffix(sent.String(), "\r\n\r\n") {
				b, err := p.r.ReadByte()
				if err != nil {
					break
				}
				sent.WriteByte(b)
			}
			head, body, _ := strings.Cut(sent.String(), "\r\n\r\n")
			if got := strings.Contains(head+"\r\n", tc.head); !got || tc.head == "" && strings.Contains(head, "\r\nTrailer") || strings.Contains(head, "Content-Length") {
				t.Errorf("the head is %q, want in it %q", head, tc.head)
			}
			if body != "5\r\nhello\r\n"+tc.end {
				t.Errorf("the body is %q, want at its end %q", body, tc.end)
			}
			p.say(okAnswer)
		})
		wantOutcome(t, f.contract.Serve(t.Context(), call, newRecorder()), core.StateSucceeded, "", "")
	}
}

// A body that waits for 100 is sent when the function asks for it, or says
// nothing, and is not when it answers at once.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		asks, answers string // before and after the body
		sent          bool
	}{
		"asked":  {asks: "HTTP/1.1 100 Continue\r\n\r\n", answers: okAnswer, sent: true},
		"silent": {answers: okAnswer, sent: true},
		"answer": {asks: okAnswer},
	} {
		for length, first := range map[int64]byte{5: 'h', -1: '5'} {
			t.Run(fmt.Sprint(name, " ", length), func(t *testing.T) {
				t.Parallel()
				f := newFunction(t, func(_ int64, p *peer) {
					head := ""
					for !strings.HasSuffix(head, "\r\n\r\n") {
						line, err := p.r.ReadString('\n')
						if err != nil {
							return
						}
						head += line
					}
					if !strings.Contains(head, "Expect: 100-continue\r\n") || p.r.Buffered() > 0 {
						t.Errorf("the head is %q, with %d bytes behind it", head, p.r.Buffered())
					}
					p.say(tc.asks)
					if tc.sent {
						if b, err := p.r.ReadByte(); err != nil || b != first {
							t.Errorf("the body begins with %q, %v", b, err)
						}
					}
					p.say(tc.answers)
					p.ended()
				})
				call := newCall("POST", "/", "hello")
				call.Request.Length = length
				call.Request.Header["Expect"] = []string{"100-Continue"}
				began := time.Now()
				o := f.contract.Serve(t.Context(), call, newRecorder())
				wantOutcome(t, o, core.StateSucceeded, "", "")
				if sent := o.BytesIn == 5; sent != tc.sent {
					t.Errorf("%d bytes of the body were sent", o.BytesIn)
				}
				if name == "silent" && time.Since(began) < time.Second {
					t.Error("the body was sent at once to a function that said nothing")
				}
			})
		}
	}
}
