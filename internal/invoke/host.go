package invoke

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/pool"
	"github.com/dayfly-io/dayfly/internal/sequence"
)

// host answers what the pool asks about instances.
type host struct {
	driver  pool.Driver
	catalog Catalog
	images  Images
	web     Hot
	fdk     Hot
	ids     *sequence.Source
	log     *slog.Logger
	sources sync.Map // core.InstanceID to *source
}

// spec says how an instance of the definition is started.
func (h *host) spec(def *core.Definition) core.InstanceSpec {
	s := &def.Version.Spec
	env := make([]string, 0, len(s.Env)+16)
	for k, v := range s.Env {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	return core.InstanceSpec{
		ID: core.InstanceID(h.ids.Next()), App: def.App.Name, Function: def.Function.Name, Version: def.Version.Number,
		Digest: def.Version.Digest, Command: s.Command, Env: env,
		Memory: s.Memory, CPU: s.CPU, CPUWeight: s.CPUWeight,
		Pids: s.Limits.Pids, Files: s.Limits.Files, Tmp: s.Limits.Tmp, Network: s.Network,
		Root: s.Root, Mounts: s.Mounts,
	}
}

// Prepare implements pool.Host. The image is here, unless it was removed since
// the call began.
func (h *host) Prepare(ctx context.Context, def *core.Definition) (core.InstanceSpec, core.Stdio, error) {
	def, err := h.images.Fetch(ctx, def, nil)
	if err != nil {
		return core.InstanceSpec{}, core.Stdio{}, unfetched(err)
	}
	spec := h.spec(def)
	h.contract(def).Prepare(def, &spec)
	src := &source{id: spec.ID, framed: def.Version.Spec.Contract == core.ContractFDK}
	h.sources.Store(spec.ID, src)
	return spec, core.Stdio{Stdout: stream{src, core.StreamStdout}, Stderr: stream{src, core.StreamStderr}}, nil
}

// contract gives the one by which the definition's instances are called.
func (h *host) contract(def *core.Definition) Hot {
	if def.Version.Spec.Contract == core.ContractFDK {
		return h.fdk
	}
	return h.web
}

// source finds where an instance's output goes. One that is gone has a source
// that nobody writes to.
func (h *host) source(id core.InstanceID) *source {
	if v, ok := h.sources.Load(id); ok {
		if s, ok := v.(*source); ok {
			return s
		}
	}
	return &source{id: id}
}

// Ready implements pool.Host. A process that ends instead is told from one
// that takes long.
func (h *host) Ready(ctx context.Context, id core.InstanceID, def *core.Definition) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watching sync.WaitGroup
	watching.Go(func() {
		exit, err := h.driver.Wait(ctx, id)
		if err == nil {
			cancel(h.ended(id, def, exit))
		}
	})
	err := h.contract(def).Ready(ctx, id, def.Version.Spec.Port)
	cause := context.Cause(ctx)
	cancel(nil)
	watching.Wait()
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*core.Error](cause); ok {
		return e
	}
	if errors.Is(err, core.ErrGone) {
		// It ended between two looks: what Wait says is the reason.
		if exit, werr := h.driver.Wait(context.WithoutCancel(ctx), id); werr == nil {
			return h.ended(id, def, exit)
		}
	}
	e := *core.AsError(err)
	if tail := h.source(id).tail(); tail != "" {
		e.Message += "\nthe last it printed:\n" + tail
	}
	return &e
}

func (h *host) ended(id core.InstanceID, def *core.Definition, exit core.Exit) error {
	reason := core.ReasonStartFailed
	if exit.OOM {
		reason = core.ReasonOOMKilled
	}
	where := ""
	if port := def.Version.Spec.Port; port != 0 {
		where = " on port " + strconv.Itoa(port)
	}
	e := core.Errorf(core.KindFunction, reason, "the process of %s/%s ended before it listened%s: %s",
		def.App.Name, def.Function.Name, where, exit)
	if tail := h.source(id).tail(); tail != "" {
		e.Message += "\nthe last it printed:\n" + tail
	}
	return e
}

// Called implements pool.Host.
func (h *host) Called(def *core.Definition) bool {
	now, err := h.catalog.Find(def.App.Name, def.Function.Name)
	return err == nil && now.Function.ID == def.Function.ID && now.Version.Number == def.Version.Number
}

// Freezing implements pool.Host. A server may close a connection that was idle
// for long in the moment it is thawed, just when a request is written to it.
func (h *host) Freezing(id core.InstanceID) {
	h.web.Disconnect(id)
	h.fdk.Disconnect(id)
	h.source(id).rest()
}

// Ended implements pool.Host.
func (h *host) Ended(id core.InstanceID, _ core.Exit, _ error) {
	h.web.Forget(id)
	h.fdk.Forget(id)
	h.sources.Delete(id)
}
