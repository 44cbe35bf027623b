package httpapi

import (
	"context"
	"math"
	"net/url"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
)

// FunctionName are the parameters that name a function.
type FunctionName struct {
	App      string `path:"app" doc:"name of the app"`
	Function string `path:"function" doc:"name of the function"`
}

// functionAnswer is the answer with one function.
type functionAnswer struct {
	ETag string `header:"ETag" doc:"for If-Match"`
	Body api.Function
}

func replyFunction(d core.Definition) *functionAnswer {
	return &functionAnswer{ETag: d.Function.ETag(), Body: wireFunction(d)}
}

func (h *Handler) listFunctions(ctx context.Context, p core.Principal, in *struct {
	App string `query:"app" doc:"of this app only"`
	Paging
},
) (*answer[api.List[api.Function]], error) {
	functions, next, err := h.cfg.Deployer.Functions(ctx, p, in.App, in.page())
	if err != nil {
		return nil, err
	}
	return list(functions, next, wireFunction), nil
}

func (h *Handler) getFunction(ctx context.Context, p core.Principal, in *FunctionName) (*functionAnswer, error) {
	d, err := h.cfg.Deployer.Function(ctx, p, in.App, in.Function)
	if err != nil {
		return nil, err
	}
	out := replyFunction(d)
	if d.Version.Spec.Instances.Min > 0 {
		kept, err := h.cfg.Instances.Kept(ctx, p, &d)
		if err != nil {
			return nil, err
		}
		out.Body.Kept = wireKept(kept)
	}
	return out, nil
}

func (h *Handler) putFunction(ctx context.Context, p core.Principal, in *struct {
	FunctionName
	IfMatch     string `header:"If-Match" doc:"the ETag the function must have; * for any that exists"`
	IfNoneMatch string `header:"If-None-Match" doc:"* refuses a function that exists already"`
	Pull        string `query:"pull" enum:"lazy" doc:"lazy leaves it to the first call to ask the registry which image the name means; else it is asked now, and the image is pulled at the first call in both cases"`
	Body        api.NewVersion
},
) (*functionAnswer, error) {
	if in.IfNoneMatch != "" && in.IfNoneMatch != "*" {
		return nil, core.Invalid("If-None-Match is %q; it can only be *", in.IfNoneMatch)
	}
	spec, err := coreSpec(in.Body.Spec)
	if err != nil {
		return nil, err
	}
	n := core.NewVersion{
		App: in.App, Function: in.Function, Description: in.Body.Description,
		Annotations: core.Annotations(in.Body.Annotations), Spec: spec,
		By: p.Name, IfMatch: in.IfMatch, Create: in.IfNoneMatch == "*",
		Lazy: in.Pull == "lazy",
	}
	d, err := h.cfg.Deployer.Save(ctx, p, n)
	if err != nil {
		return nil, conditional(err, n.IfMatch != "" || n.Create)
	}
	return replyFunction(d), nil
}

func (h *Handler) deleteFunction(ctx context.Context, p core.Principal, in *struct {
	FunctionName
	IfMatch string `header:"If-Match" doc:"the ETag the function must have"`
},
) (*none, error) {
	err := h.cfg.Deployer.Delete(ctx, p, in.App, in.Function, in.IfMatch)
	return nil, conditional(err, in.IfMatch != "")
}

// functionPath gives the path of a function's URL.
func functionPath(app, name string) string {
	return CallPrefix + url.PathEscape(app) + "/" + url.PathEscape(name)
}

func wireFunction(d core.Definition) api.Function {
	f, v := d.Function, d.Version
	return api.Function{
		ID: f.ID.String(), App: d.App.Name, Name: f.Name, Path: functionPath(d.App.Name, f.Name),
		Description: f.Description, Annotations: api.Annotations(f.Annotations),
		Version: f.Version, Digest: v.Digest, Unresolved: !v.Resolved(), Spec: wireSpec(v.Spec), ETag: f.ETag(),
		CreatedAt: f.CreatedAt.UTC(), UpdatedAt: f.UpdatedAt.UTC(),
		DeployedAt: v.CreatedAt.UTC(), DeployedBy: v.CreatedBy,
	}
}

// coreSpec reads a spec. What it may hold is for core to say.
func coreSpec(s api.Spec) (core.Spec, error) {
	for key, value := range map[string]any{"gpus": s.GPUs, "devices": s.Devices} {
		if value != nil {
			return core.Spec{}, core.NotYet(key)
		}
	}
	var root core.Root
	if s.Root != "" {
		var err error
		if root, err = core.ParseRoot(s.Root); err != nil {
			return core.Spec{}, err
		}
	}
	l := s.Limits
	return core.Spec{
		Image: s.Image, Contract: core.Contract(s.Contract), Command: s.Command, Args: s.Args,
		ContentType: s.ContentType, Stream: s.Stream, Port: s.Port, Memory: core.Bytes(s.Memory),
		CPU: core.CPU(math.Round(s.CPU * 1000)), CPUWeight: core.CPUWeight(s.CPUWeight), Timeout: time.Duration(s.Timeout),
		Root: root, Mounts: each(s.Mounts, func(m api.Mount) core.Mount { return core.Mount(m) }),
		Network: core.Network(s.Network), Env: s.Env,
		Instances:   coreInstances(s.Instances),
		Concurrency: core.Concurrency{PerInstance: s.Concurrency.PerInstance},
		Limits: core.Limits{
			Start: time.Duration(l.Start), Body: core.Bytes(l.Body), Result: core.Bytes(l.Result),
			Log: core.Bytes(l.Log), Headers: core.Bytes(l.Headers), Tmp: core.Bytes(l.Tmp),
			Pids: l.Pids, Files: l.Files, Waiting: l.Waiting, Wait: time.Duration(l.Wait),
		},
	}, nil
}

// each converts a list; nil stays nil.
func each[A, B any](list []A, convert func(A) B) []B {
	var out []B
	for _, v := range list {
		out = append(out, convert(v))
	}
	return out
}

func wireSpec(s core.Spec) api.Spec {
	l := s.Limits
	return api.Spec{
		Image: s.Image, Contract: string(s.Contract), Command: s.Command, Args: s.Args,
		ContentType: s.ContentType, Stream: s.Stream, Port: s.Port, Memory: api.Bytes(s.Memory),
		CPU: float64(s.CPU) / 1000, CPUWeight: int(s.CPUWeight), Timeout: api.Duration(s.Timeout),
		Root: s.Root.String(), Mounts: each(s.Mounts, func(m core.Mount) api.Mount { return api.Mount(m) }),
		Network: string(s.Network), Env: s.Env,
		Instances:   wireInstances(s.Instances),
		Concurrency: api.Concurrency{PerInstance: s.Concurrency.PerInstance},
		Limits: api.Limits{
			Start: api.Duration(l.Start), Body: api.Bytes(l.Body), Result: api.Bytes(l.Result),
			Log: api.Bytes(l.Log), Headers: api.Bytes(l.Headers), Tmp: api.Bytes(l.Tmp),
			Pids: l.Pids, Files: l.Files, Waiting: l.Waiting, Wait: api.Duration(l.Wait),
		},
	}
}

func coreInstances(i api.InstanceBounds) core.Instances {
	return core.Instances{Min: i.Min, Max: i.Max, Idle: time.Duration(i.Idle), Freeze: time.Duration(i.Freeze)}
}

func wireInstances(i core.Instances) api.InstanceBounds {
	return api.InstanceBounds{Min: i.Min, Max: i.Max, Idle: api.Duration(i.Idle), Freeze: api.Duration(i.Freeze)}
}
