package httpapi

import (
	"context"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
)

func (h *Handler) listInstances(ctx context.Context, p core.Principal, _ *struct{}) (*answer[api.List[api.Instance]], error) {
	instances, err := h.cfg.Instances.Instances(ctx, p)
	if err != nil {
		return nil, err
	}
	return list(instances, "", wireInstance), nil
}

func wireInstance(i core.Instance) api.Instance {
	return api.Instance{
		ID: i.ID.String(), App: i.App, Function: i.Function, Version: i.Version, Driver: i.Driver,
		State: string(i.State), Memory: api.Bytes(i.Memory), Served: i.Served,
		StartedAt: i.StartedAt.UTC(), UsedAt: utc(i.UsedAt), FrozenAt: utc(i.FrozenAt), Thaws: i.Thaws, Start: wireStart(i.Start),
	}
}

func wireKept(k core.Kept) *api.Kept {
	return &api.Kept{Want: k.Want, Ready: k.Ready, Problem: k.Problem, RetryAt: utc(k.RetryAt)}
}

func wireStart(s core.StartPhases) api.Start {
	return api.Start{
		ImageMS: api.ToMilliseconds(s.Image), SandboxMS: api.ToMilliseconds(s.Sandbox), BootMS: api.ToMilliseconds(s.Boot),
		ThawMS: api.ToMilliseconds(s.Thaw),
	}
}
