package fdk_test

import (
	"context"
	"io"
	"testing"

	"github.com/dayfly-io/dayfly/internal/contracttest"
	"github.com/dayfly-io/dayfly/internal/core"
)

func TestContract(t *testing.T) {
	t.Parallel()
	contracttest.Run(t, contracttest.Subject{
		Spec: core.Spec{Contract: core.ContractFDK},
		New: func(t *testing.T, b contracttest.Behaviour) contracttest.Serve {
			t.Helper()
			f := newFunction(t, func(p *peer) {
				req := p.request()
				if req == nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				switch b {
				case contracttest.Answers:
					p.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + contracttest.Answer)
				case contracttest.Fails:
					p.say("HTTP/1.1 502 Oh\r\nContent-Length: 2\r\n\r\noh")
				case contracttest.BreaksOff:
					p.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nthe\r\n")
					return
				case contracttest.Trickles:
					p.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nthe\r\n")
				case contracttest.Hangs:
				}
				p.ended()
			})
			return func(ctx context.Context, call *core.Call, reply core.Reply) core.Outcome {
				return f.contract.Serve(ctx, call, reply)
			}
		},
	})
}
