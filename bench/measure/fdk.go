package measure

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/bench/load"
	"github.com/dayfly-io/dayfly/bench/peer"
)

// FDK is the variant of the contract fdk, SocketProxy that of a plain proxy in
// front of as many processes of the same program.
const (
	FDK         = "fdk"
	SocketProxy = "net/http proxy over sockets"
)

// FDKOptions are how much of it is measured.
type FDKOptions struct {
	HotOptions
	Instances int // at the most, of each
}

// Fdk measures calls of instances of the contract fdk that are there, against
// a plain proxy of net/http that spreads its requests over as many processes,
// one at a time for each.
func Fdk(ctx context.Context, b *Bench, o FDKOptions) error {
	if err := b.chooseClient(&o.HotOptions); err != nil {
		return err
	}
	kit, err := b.workload(ctx, "kit")
	if err != nil {
		return err
	}
	s, err := b.server(ctx, "server", []string{"--keep-runs", "1000000000"}, kit)
	if err != nil {
		return err
	}
	defer b.stop(s)
	proxy, programs, err := peer.StaySockets(ctx, kit.Program, filepath.Join(b.Dir, "s"), o.Instances)
	if err != nil {
		return err
	}
	defer func() {
		b.end(proxy)
		if err := programs.Close(); err != nil {
			b.Log.Error("ending the programs did not work", "error", err)
		}
	}()
	t, err := s.Deploy(ctx, "fdk", api.Spec{
		Image: kit.Name, Contract: api.ContractFDK, CPU: float64(runtime.NumCPU()),
		Instances: api.InstanceBounds{Max: o.Instances, Idle: api.Duration(time.Hour)},
	})
	if err != nil {
		return err
	}
	if err := b.Out.Note("%d instances at the most, of each", o.Instances); err != nil {
		return err
	}
	answered, aborted, err := b.hotRounds(ctx, []hotTarget{
		{proxy.Target, SocketProxy, false, proxy.PID()}, {t, FDK, true, s.PID()},
	}, o.HotOptions)
	if err != nil {
		return err
	}
	return b.recorded(ctx, s, answered, aborted)
}

// chooseClient fills in what makes the load, and notes it.
func (b *Bench) chooseClient(o *HotOptions) error {
	if o.Client == nil {
		o.Client = load.Own{}
		if wrk, err := load.FindWrk(); err == nil {
			o.Client = wrk
		}
	}
	if err := b.Out.Note("client: %s", o.Client.Name()); err != nil {
		return fmt.Errorf("note the client: %w", err)
	}
	return nil
}
