package job_test

import (
	"context"
	"io"
	"testing"

	"github.com/dayfly-io/dayfly/internal/contract/job"
	"github.com/dayfly-io/dayfly/internal/contracttest"
	"github.com/dayfly-io/dayfly/internal/core"
)

// A job whose answer is kept back cannot break off in the middle, so the suite
// runs with one that streams.
func TestContract(t *testing.T) {
	t.Parallel()
	contracttest.Run(t, contracttest.Subject{
		Spec: core.Spec{Contract: core.ContractJob, Stream: true},
		New: func(t *testing.T, b contracttest.Behaviour) contracttest.Serve {
			t.Helper()
			r := newRunner(t, func(p *process) core.Exit {
				_, _ = io.Copy(io.Discard, p.stdin)
				switch b {
				case contracttest.Answers:
					p.print(contracttest.Answer)
				case contracttest.Fails:
					return core.Exit{Code: 3}
				case contracttest.BreaksOff:
					p.print(contracttest.Answer[:3])
					return core.Exit{Code: 3}
				case contracttest.Trickles:
					p.print(contracttest.Answer[:3])
					return p.untilStopped()
				case contracttest.Hangs:
					return p.untilStopped()
				}
				return core.Exit{}
			})
			c := job.New(r, job.Options{})
			return func(ctx context.Context, call *core.Call, reply core.Reply) core.Outcome {
				return c.Serve(ctx, call, r.job(call), reply)
			}
		},
	})
}
