package httpapi

import (
	"context"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
)

func (h *Handler) listApps(ctx context.Context, p core.Principal, in *Paging) (*answer[api.List[api.App]], error) {
	apps, next, err := h.cfg.Deployer.Apps(ctx, p, in.page())
	if err != nil {
		return nil, err
	}
	return list(apps, next, wireApp), nil
}

func wireApp(a core.App) api.App {
	return api.App{
		ID: a.ID.String(), Name: a.Name, Description: a.Description, Annotations: api.Annotations(a.Annotations),
		CreatedAt: a.CreatedAt.UTC(), UpdatedAt: a.UpdatedAt.UTC(),
	}
}
