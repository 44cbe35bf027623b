package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

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
	images, err := h.cfg.Images.LoadImages(ctx, p, in.tar)
	if err != nil {
		return nil, err
	}
	return list(images, "", wireImage), nil
}

func (h *Handler) listImages(ctx context.Context, p core.Principal, _ *struct{}) (*answer[api.List[api.Image]], error) {
	images, err := h.cfg.Images.Images(ctx, p)
	if err != nil {
		return nil, err
	}
	return list(images, "", wireImage), nil
}

// ImageName is the parameter that names an image.
type ImageName struct {
	Image string `path:"image" doc:"name or digest of the image, its slashes escaped as %2F" example:"shop%2Fresize:1.2"`
}

func (h *Handler) getImage(ctx context.Context, p core.Principal, in *ImageName) (*answer[api.Image], error) {
	image, err := h.cfg.Images.Image(ctx, p, in.Image)
	if err != nil {
		return nil, err
	}
	return reply(wireImage(image)), nil
}

func (h *Handler) deleteImage(ctx context.Context, p core.Principal, in *ImageName) (*none, error) {
	return nil, h.cfg.Images.RemoveImage(ctx, p, in.Image)
}

func (h *Handler) pruneImages(ctx context.Context, p core.Principal, in *struct{ Body api.PruneImages }) (*answer[api.PrunedImages], error) {
	pruned, err := h.cfg.Images.PruneImages(ctx, p, in.Body.All)
	if err != nil {
		return nil, err
	}
	out := api.PrunedImages{Images: make([]api.Image, len(pruned.Images)), Layers: pruned.Layers, Bytes: int64(pruned.Bytes)}
	for i, image := range pruned.Images {
		out.Images[i] = wireImage(image)
	}
	return reply(out), nil
}

const ndjsonType = "application/x-ndjson"

// pullAnswers describes the answer to a pull.
func pullAnswers(op *huma.Operation, schemas huma.Registry) {
	op.Description = "Answers with lines of JSON while the image comes: `progress` several times a second, at last `image` or `problem`. " +
		"What fails before anything has come is answered as a problem, with its status. The pull ends when all who wait for it have gone; " +
		"the next one goes on where it ended."
	op.Responses = map[string]*huma.Response{"200": {
		Description: "OK",
		Content:     map[string]*huma.MediaType{ndjsonType: {Schema: schemas.Schema(reflect.TypeFor[api.PullEvent](), true, "")}},
	}}
}

func (h *Handler) pullImage(_ context.Context, p core.Principal, in *struct{ Body api.PullImage }) (*stream, error) {
	return &stream{func(c huma.Context) {
		r, w := humago.Unwrap(c)
		h.pull(w, r, p, in.Body.Image)
	}}, nil
}

// quietPull is how long a pull that has got nowhere yet says nothing, so that
// a refusal can be answered with its status.
const quietPull = 5 * time.Second

// pull pulls an image and tells how far it is.
func (h *Handler) pull(w http.ResponseWriter, r *http.Request, p core.Principal, ref string) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	lines := &lineStream{w: w, control: http.NewResponseController(w)}
	began := time.Now()
	image, err := h.cfg.Images.PullImage(ctx, p, ref, func(now core.PullProgress) {
		select {
		case <-h.closing:
			cancel()
			return
		default:
		}
		if !lines.begun && now.Phase == core.PullResolving && time.Since(began) < quietPull {
			return
		}
		if lines.send(api.PullEvent{Progress: wirePull(&now)}) != nil {
			cancel()
		}
	})
	switch {
	case err == nil:
		out := wireImage(image)
		_ = lines.send(api.PullEvent{Image: &out})
	case !lines.begun:
		h.refuse(w, r, err)
	default:
		failure := h.failure(r.Context(), r.Method, r.URL.Path, core.Run{}, err)
		_ = lines.send(api.PullEvent{Problem: &failure.Problem})
	}
	_ = lines.control.SetWriteDeadline(time.Time{})
}

// lineStream writes lines of JSON (https://github.com/ndjson/ndjson-spec).
type lineStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (s *lineStream) send(v any) error {
	if !s.begun {
		s.begun = true
		s.w.Header()["Content-Type"] = []string{ndjsonType}
		s.w.Header()["X-Accel-Buffering"] = []string{"no"} // nginx holds answers back otherwise
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(writeWait)) // a writer without deadlines has none to miss
	if err := json.NewEncoder(s.w).Encode(v); err != nil {
		return err //nolint:wrapcheck // it ends the stream and is shown to nobody
	}
	return s.control.Flush() //nolint:wrapcheck // as above
}

func wirePull(p *core.PullProgress) *api.PullProgress {
	if p == nil {
		return nil
	}
	return &api.PullProgress{
		Image: p.Image, Digest: p.Digest, Phase: string(p.Phase), Percent: p.Percent(),
		BytesDone: int64(p.Done), BytesTotal: int64(p.Total), LayersDone: p.LayersDone, Layers: p.Layers,
		Rate: int64(p.Rate), Since: p.Since.UTC(),
	}
}

func wireImage(i core.Image) api.Image {
	names := i.Names
	if names == nil {
		names = []string{}
	}
	return api.Image{
		Names: names, Digest: i.Digest, Bytes: int64(i.Size), LoadedAt: i.LoadedAt.UTC(),
		UsedAt: utc(i.UsedAt), Instances: i.Instances, Source: i.Source,
		Config: api.ImageConfig{
			Entrypoint: i.Config.Entrypoint, Cmd: i.Config.Cmd, WorkingDir: i.Config.WorkingDir,
			User: i.Config.User, OS: i.Config.OS, Architecture: i.Config.Architecture,
		},
	}
}
