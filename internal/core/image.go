package core

import "time"

// Image is a container image in the store of this server.
type Image struct {
	// Names are the references by which it can be named, such as
	// "shop/resize:1.2".
	Names []string
	// Digest is that of its manifest, "sha256:...".
	Digest string
	// Size is that of its layers, unpacked.
	Size     Bytes
	LoadedAt time.Time
	Config   ImageConfig
}

// ImageConfig is what an image says of the process it wants.
type ImageConfig struct {
	Entrypoint   []string
	Cmd          []string
	Env          []string // K=V
	WorkingDir   string
	User         string // name or uid, with :group or :gid or not
	OS           string
	Architecture string
	StopSignal   string
}

// Process gives the arguments with which the image's process starts. command
// stands in place of entrypoint and cmd, unless it is empty; argument, when
// there is one, stands in place of the cmd alone.
func (c ImageConfig) Process(command []string, argument *string) []string {
	args, cmd := c.Entrypoint, c.Cmd
	if len(command) > 0 {
		args, cmd = command, nil
	}
	if argument != nil {
		cmd = []string{*argument}
	}
	out := make([]string, 0, len(args)+len(cmd))
	return append(append(out, args...), cmd...)
}
