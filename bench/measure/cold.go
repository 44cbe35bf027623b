package measure

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/bench/load"
	"github.com/dayfly-io/dayfly/bench/peer"
	"github.com/dayfly-io/dayfly/bench/rig"
)

// ColdOptions are how much of it is measured.
type ColdOptions struct {
	// Calls is how many cold starts of each of our variants and of the plain
	// process are measured, PeerCalls of each other peer; Rounds is into how
	// many rounds they are divided.
	Calls, PeerCalls, Rounds int
}

// coldSettle is the rest before each cold start: the prepared sandboxes have
// been filled up again by then.
const coldSettle = 100 * time.Millisecond

// coldWarm is how many cold starts of each variant are not measured.
const coldWarm = 3

// coldVariant is one of our ways to start.
type coldVariant struct {
	name    string
	server  *rig.Server
	conn    *load.Conn
	network string
	next    int // number of the next function
}

// Cold measures the time from a request to the first byte of its answer when
// no instance is there, at one caller. Every call is the first of a function
// of its own; all have the same image.
func Cold(ctx context.Context, b *Bench, o ColdOptions) error {
	hello, err := b.workload(ctx, "hello")
	if err != nil {
		return err
	}
	unprepared, err := b.server(ctx, "unprepared", []string{"--prepared", "-1"}, hello)
	if err != nil {
		return err
	}
	defer b.stop(unprepared)
	prewarmed, err := b.server(ctx, "prewarmed", nil, hello)
	if err != nil {
		return err
	}
	defer b.stop(prewarmed)
	engines, err := b.coldPeers(ctx, hello)
	if err != nil {
		return err
	}
	defer engines.close(b)
	ours, err := b.coldInDocker(ctx, engines, hello, o)
	if err != nil {
		return err
	}
	defer ours.close(b)
	var variants []*coldVariant
	for _, network := range []string{api.NetworkEgress, api.NetworkNone} {
		variants = append(variants,
			&coldVariant{name: "cold, " + network, server: unprepared, network: network},
			&coldVariant{name: "prewarmed, " + network, server: prewarmed, network: network})
	}
	for _, v := range variants {
		if err := v.deploy(ctx, hello.Name, o.Calls+coldWarm); err != nil {
			return err
		}
		defer func() { _ = v.conn.Close() }() // nothing is under way
		for range coldWarm {
			if _, err := v.call(ctx); err != nil {
				return err
			}
		}
	}
	for round := range o.Rounds {
		b.Log.Info("cold", "round", round+1, "of", o.Rounds)
		if err := b.coldRound(ctx, round, variants, ours, engines, o); err != nil {
			return err
		}
	}
	return nil
}

// coldDocker is a server of ours with the docker driver, in the engine that is
// measured beside it.
type coldDocker struct {
	server   *rig.Server
	variants []*coldVariant
}

// coldInDocker starts it; without an engine there is none.
func (b *Bench) coldInDocker(ctx context.Context, engines *coldEngines, hello rig.Workload, o ColdOptions) (*coldDocker, error) {
	d := &coldDocker{}
	if engines.docker == nil {
		return d, nil
	}
	var err error
	d.server, err = b.server(ctx, "indocker", []string{"--driver", "docker", "--docker-host", engines.docker.Host}, hello)
	if err != nil {
		return nil, err
	}
	for _, network := range []string{api.NetworkEgress, api.NetworkNone} {
		v := &coldVariant{name: "docker driver, " + network, server: d.server, network: network}
		err := v.deploy(ctx, hello.Name, o.PeerCalls+1)
		if err == nil {
			_, err = v.call(ctx) // the first is not measured
		}
		if err != nil {
			b.stop(d.server)
			return nil, err
		}
		d.variants = append(d.variants, v)
	}
	return d, nil
}

// call measures one start of each network.
func (d *coldDocker) call(ctx context.Context, b *Bench, round int) error {
	for _, v := range d.variants {
		values, err := v.call(ctx)
		if err != nil {
			return err
		}
		if err := b.Out.Sample(round, v.name, values); err != nil {
			return err
		}
	}
	return nil
}

func (d *coldDocker) close(b *Bench) {
	for _, v := range d.variants {
		_ = v.conn.Close() // nothing is under way
	}
	if d.server != nil {
		b.stop(d.server)
	}
}

// share gives how many of n fall into a round.
func share(n, round, rounds int) int { return n*(round+1)/rounds - n*round/rounds }

// coldRound takes turns: one start of each of ours and of the plain process,
// again and again, then the peers, which leave the machine uneasy.
func (b *Bench) coldRound(ctx context.Context, round int, variants []*coldVariant, ours *coldDocker, engines *coldEngines, o ColdOptions) error {
	if err := sleep(ctx, 300*time.Millisecond); err != nil {
		return err
	}
	for i := range share(o.Calls, round, o.Rounds) {
		for j := range variants {
			v := variants[(i+j)%len(variants)]
			values, err := v.call(ctx)
			if err != nil {
				return err
			}
			if err := b.Out.Sample(round, v.name, values); err != nil {
				return err
			}
		}
		if err := b.cycle(ctx, round, engines.plain); err != nil {
			return err
		}
	}
	for range share(o.PeerCalls, round, o.Rounds) {
		for _, e := range engines.others {
			if err := b.cycle(ctx, round, e); err != nil {
				return err
			}
		}
		if err := ours.call(ctx, b, round); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bench) cycle(ctx context.Context, round int, e peer.Engine) error {
	if err := sleep(ctx, coldSettle); err != nil {
		return err
	}
	t, err := e.Cycle(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", e.Name(), err)
	}
	return b.Out.Sample(round, e.Name(), map[string]float64{
		"first_byte_ms": ms(t.FirstByte), "start_ms": ms(t.Start), "teardown_ms": ms(t.Teardown),
	})
}

// deploy makes n functions and connects.
func (v *coldVariant) deploy(ctx context.Context, image string, n int) error {
	for i := range n {
		if _, err := v.server.Deploy(ctx, v.function(i), api.Spec{Image: image, Network: v.network}); err != nil {
			return err
		}
	}
	var err error
	v.conn, err = load.Dial(v.server.Address)
	return err
}

func (v *coldVariant) function(i int) string { return fmt.Sprintf("%s-%d", v.network, i) }

// call calls the next function, looks at its run, and deletes it.
func (v *coldVariant) call(ctx context.Context) (map[string]float64, error) {
	name := v.function(v.next)
	v.next++
	if err := sleep(ctx, coldSettle); err != nil {
		return nil, err
	}
	a, err := v.conn.Do(load.Request("GET", "/f/"+rig.App+"/"+name, v.server.Address))
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", name, err)
	}
	if a.Status != 200 {
		return nil, fmt.Errorf("call %s: status %d: %s", name, a.Status, a.Body)
	}
	run, err := v.server.Run(ctx, a.Header(api.HeaderRunID))
	if err != nil {
		return nil, fmt.Errorf("look at the run of %s: %w", name, err)
	}
	if !run.Cold || run.Start == nil {
		return nil, fmt.Errorf("call %s: it was not cold", name)
	}
	values := map[string]float64{
		"first_byte_ms": ms(a.First), "queue_ms": float64(run.QueueMS), "image_ms": float64(run.Start.ImageMS),
		"sandbox_ms": float64(run.Start.SandboxMS), "boot_ms": float64(run.Start.BootMS), "run_ms": float64(run.DurationMS),
	}
	ending := time.Now()
	if err := v.server.DeleteFunction(ctx, rig.App, name, ""); err != nil {
		return nil, fmt.Errorf("delete %s: %w", name, err)
	}
	if _, err := v.server.AwaitNoInstances(ctx); err != nil {
		return nil, err
	}
	values["teardown_ms"] = ms(time.Since(ending))
	return values, nil
}

// coldEngines are the peers that there are.
type coldEngines struct {
	plain  *peer.Plain
	others []peer.Engine
	docker *peer.Docker
}

// coldPeers starts the peers. One that is not there is noted and left out.
func (b *Bench) coldPeers(ctx context.Context, hello rig.Workload) (*coldEngines, error) {
	e := &coldEngines{}
	var err error
	if e.plain, err = peer.NewPlain(hello.Program); err != nil {
		return nil, err
	}
	var missing []error
	runc, err := peer.NewRunc(b.Dir, hello.Program, b.PeerEnv)
	if err == nil {
		_, err = runc.Cycle(ctx)
	}
	if err == nil {
		e.others = append(e.others, runc)
		err = b.Out.Note("%s", runc.Version)
	} else {
		missing = append(missing, fmt.Errorf("runc was not measured: %w", err))
		err = nil
	}
	if err != nil {
		return nil, err
	}
	e.docker, err = peer.StartDocker(ctx, b.Dir, hello.Name, hello.Tar, b.PeerEnv)
	if err == nil {
		for _, network := range []string{"bridge", "none"} {
			engine := e.docker.On(network)
			if _, cerr := engine.Cycle(ctx); cerr != nil {
				missing = append(missing, fmt.Errorf("%s was not measured: %w", engine.Name(), cerr))
				continue
			}
			e.others = append(e.others, engine)
		}
		err = b.Out.Note("Docker Engine %s", e.docker.Version)
	} else {
		missing = append(missing, fmt.Errorf("docker was not measured: %w", err))
		err = nil
	}
	for _, m := range missing {
		b.Log.Warn("a peer is left out", "error", m)
		err = errors.Join(err, b.Out.Note("%s", m))
	}
	if err != nil {
		e.close(b)
		return nil, err
	}
	return e, nil
}

func (e *coldEngines) close(b *Bench) {
	if e.docker == nil {
		return
	}
	if err := e.docker.Close(); err != nil {
		b.Log.Error("ending docker did not work", "error", err)
	}
}
