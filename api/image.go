package api

import "time"

// Image is a container image in the store of the server.
type Image struct {
	Names    []string    `json:"names" nullable:"false" doc:"references by which it can be named"`
	Digest   string      `json:"digest" doc:"of its manifest" example:"sha256:9f86d0..."`
	Bytes    int64       `json:"bytes" doc:"size of its layers, unpacked"`
	LoadedAt time.Time   `json:"loaded_at"`
	Config   ImageConfig `json:"config"`
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
