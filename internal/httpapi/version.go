package httpapi

import (
	"context"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
)

func (h *Handler) listVersions(ctx context.Context, p core.Principal, in *struct {
	FunctionName
	Paging
},
) (*answer[api.List[api.Version]], error) {
	versions, next, err := h.cfg.Versions.Versions(ctx, p, in.App, in.Function, in.page())
	if err != nil {
		return nil, err
	}
	return list(versions, next, wireVersion), nil
}

func (h *Handler) getVersion(ctx context.Context, p core.Principal, in *struct {
	FunctionName
	Version int `path:"version" minimum:"1" doc:"number of the version"`
},
) (*answer[api.Version], error) {
	d, err := h.cfg.Versions.Version(ctx, p, in.App, in.Function, in.Version)
	if err != nil {
		return nil, err
	}
	return reply(wireVersion(d.Version)), nil
}

func (h *Handler) rollBack(ctx context.Context, p core.Principal, in *struct {
	FunctionName
	IfMatch string `header:"If-Match" doc:"the ETag the function must have"`
	Body    api.Rollback
},
) (*functionAnswer, error) {
	d, err := h.cfg.Versions.Rollback(ctx, p, core.Rollback{App: in.App, Function: in.Function, To: in.Body.To, IfMatch: in.IfMatch})
	if err != nil {
		return nil, conditional(err, in.IfMatch != "")
	}
	return replyFunction(d), nil
}

func wireVersion(v core.Version) api.Version {
	return api.Version{
		Version: v.Number, Digest: v.Digest, Restores: v.Restores, Spec: wireSpec(v.Spec),
		CreatedAt: v.CreatedAt.UTC(), CreatedBy: v.CreatedBy,
	}
}
