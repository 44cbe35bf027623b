package httpapi

import (
	"context"
	"io"
	"mime"

	"github.com/danielgtaylor/huma/v2"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
)

const tarType = "application/x-tar"

// upload is a tar that is read while it comes.
type upload struct{ tar io.Reader }

// Resolve takes the body before huma would read it.
func (u *upload) Resolve(ctx huma.Context) []error {
	kind, _, err := mime.ParseMediaType(ctx.Header("Content-Type"))
	if err != nil || kind != tarType {
		return []error{huma.Error415UnsupportedMediaType("the body must be a tar: send Content-Type: " + tarType)}
	}
	u.tar = ctx.BodyReader()
	return nil
}

func tarBody(op *huma.Operation, _ huma.Registry) {
	op.Description = "The tar is streamed: nothing of it is held in memory."
	op.RequestBody = &huma.RequestBody{
		Required: true,
		Content:  map[string]*huma.MediaType{tarType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
	}
	op.SkipValidateBody = true
}

func (h *Handler) loadImages(ctx context.Context, p core.Principal, in *upload) (*answer[api.List[api.Image]], error) {
	images, err := h.cfg.Deployer.LoadImages(ctx, p, in.tar)
	if err != nil {
		return nil, err
	}
	return list(images, "", wireImage), nil
}

func (h *Handler) listImages(ctx context.Context, p core.Principal, _ *struct{}) (*answer[api.List[api.Image]], error) {
	images, err := h.cfg.Deployer.Images(ctx, p)
	if err != nil {
		return nil, err
	}
	return list(images, "", wireImage), nil
}

func wireImage(i core.Image) api.Image {
	names := i.Names
	if names == nil {
		names = []string{}
	}
	return api.Image{
		Names: names, Digest: i.Digest, Bytes: int64(i.Size), LoadedAt: i.LoadedAt.UTC(),
		Config: api.ImageConfig{
			Entrypoint: i.Config.Entrypoint, Cmd: i.Config.Cmd, WorkingDir: i.Config.WorkingDir,
			User: i.Config.User, OS: i.Config.OS, Architecture: i.Config.Architecture,
		},
	}
}
