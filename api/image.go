package api

import "time"

// Image is a container image in the store of the server.
type Image struct {
	Names    []string  `json:"names" nullable:"false" doc:"references by which it can be named"`
	Digest   string    `json:"digest" doc:"of its manifest" example:"sha256:9f86d0..."`
	Bytes    int64     `json:"bytes" doc:"size of its layers, unpacked"`
	LoadedAt time.Time `json:"loaded_at" doc:"when it was loaded or pulled"`
	UsedAt   time.Time `json:"used_at,omitzero" doc:"when an instance of it was last started, within an hour"`
	// Instances is how many there are of it.
	Instances int         `json:"instances" doc:"how many there are of it"`
	Source    string      `json:"source,omitempty" doc:"repository that it was pulled from and can be pulled from again; none for one that was loaded" example:"registry.example/shop/resize"`
	Config    ImageConfig `json:"config"`
}

// PullImage asks for an image of a registry.
type PullImage struct {
	Image string `json:"image" minLength:"1" doc:"name, with tag or digest" example:"registry.example/shop/resize:1.2"`
}

// The phases of a pull, in their order.
const (
	PullResolving   = "resolving"
	PullDownloading = "downloading"
	PullUnpacking   = "unpacking"
)

// PullProgress tells how far the pull of an image is.
type PullProgress struct {
	Image      string    `json:"image" doc:"as it was asked for"`
	Digest     string    `json:"digest,omitempty" doc:"of its manifest, once known"`
	Phase      string    `json:"phase" enum:"resolving,downloading,unpacking"`
	Percent    int       `json:"percent" minimum:"0" maximum:"100" doc:"downloaded"`
	BytesDone  int64     `json:"bytes_done" doc:"of layers that were not here already, compressed"`
	BytesTotal int64     `json:"bytes_total" doc:"0 while it is not known"`
	LayersDone int       `json:"layers_done" doc:"unpacked"`
	Layers     int       `json:"layers" doc:"that were not here already"`
	Rate       int64     `json:"bytes_per_second" doc:"as of the last seconds"`
	Since      time.Time `json:"since" doc:"when the pull began"`
}

// PullEvent is a line of the answer to a pull; one of the fields is set. The
// last line has image or problem.
type PullEvent struct {
	Progress *PullProgress `json:"progress,omitempty"`
	Image    *Image        `json:"image,omitempty"`
	Problem  *Problem      `json:"problem,omitempty"`
}

// PruneImages says which images may go.
type PruneImages struct {
	All bool `json:"all,omitempty" doc:"also those that functions have and that can be pulled again, and those that were loaded and have a name"`
}

// PrunedImages tells what has been removed.
type PrunedImages struct {
	Images []Image `json:"images" nullable:"false"`
	Layers int     `json:"layers"`
	Bytes  int64   `json:"bytes" doc:"of the layers that went with them"`
}

// ImageConfig is what an image says of the process it wants. Its environment
// is not told.
type ImageConfig struct {
	Entrypoint   []string `json:"entrypoint,omitempty" nullable:"false"`
	Cmd          []string `json:"cmd,omitempty" nullable:"false"`
	WorkingDir   string   `json:"working_dir,omitempty"`
	User         string   `json:"user,omitempty"`
	OS           string   `json:"os,omitempty"`
	Architecture string   `json:"architecture,omitempty"`
}
