package core

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

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
	// UsedAt is when an instance of it was last started, within an hour; zero
	// for never.
	UsedAt time.Time
	// Instances is how many there are of it.
	Instances int
	// Source is the repository that it was pulled from, with its registry,
	// such as "registry.example/shop/resize"; "" for an image that was loaded
	// and cannot be had again from anywhere.
	Source string
	Config ImageConfig
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

// PullPhase is what a pull is doing.
type PullPhase string

// The phases of a pull, in their order.
const (
	PullResolving   PullPhase = "resolving"   // asking the registry what the name means
	PullDownloading PullPhase = "downloading" // layers come, and those that are there are unpacked
	PullUnpacking   PullPhase = "unpacking"   // all layers are there, not all unpacked
)

// PullProgress tells how far the pull of an image is.
type PullProgress struct {
	Image  string // as it was asked for
	Digest string // of its manifest; "" while that is not known
	Phase  PullPhase
	// Done and Total are bytes of layers, compressed. Layers that are on the
	// server already do not count. Total is 0 while it is not known.
	Done, Total Bytes
	// LayersDone of Layers are unpacked.
	LayersDone, Layers int
	// Rate is bytes per second, as of the last seconds.
	Rate Bytes
	// Since is when the pull began.
	Since time.Time
}

// Percent gives how much has been downloaded, 0 to 100.
func (p PullProgress) Percent() int {
	switch {
	case p.Phase == PullUnpacking:
		return 100
	case p.Total <= 0:
		return 0
	}
	return int(min(max(p.Done, 0), p.Total) * 100 / p.Total)
}

// String says in a few words how far the pull is.
func (p PullProgress) String() string {
	switch p.Phase {
	case PullUnpacking:
		return fmt.Sprintf("image unpack, %d of %d layers", p.LayersDone, p.Layers)
	case PullDownloading:
		return fmt.Sprintf("image pull %d %%", p.Percent())
	default:
		return "image pull, asking the registry"
	}
}

// Left gives how long the download still takes at its present rate; 0 when
// that cannot be told.
func (p PullProgress) Left() time.Duration {
	if p.Rate <= 0 || p.Total <= p.Done {
		return 0
	}
	return time.Duration(float64(p.Total-p.Done) / float64(p.Rate) * float64(time.Second))
}

// ImageLimits say which images may go. Zero fields are no limit.
type ImageLimits struct {
	// UnusedSince lets images go that were pulled, and used last, before it.
	UnusedSince time.Time
	// Space is how much all images together may take; the least recently used
	// go first.
	Space Bytes
	// Named lets images go that have a name and cannot be pulled again. Only
	// a person may ask for that.
	Named bool
}

// Pruned tells what has been removed.
type Pruned struct {
	Images []Image
	// Layers and Bytes are of the layers that went with them.
	Layers int
	Bytes  Bytes
}

// RegistryCredentials open a registry. The zero value is none. User and
// Password, or Basic, or one of the tokens are set.
type RegistryCredentials struct {
	User, Password string
	Basic          string // base64 of user:password
	IdentityToken  string // to get tokens with (OAuth2)
	Token          string // sent as it is
}

// String hides what is in it.
func (c RegistryCredentials) String() string {
	if c == (RegistryCredentials{}) {
		return "no credentials"
	}
	return "credentials of " + strconv.Quote(c.User)
}

// GoString hides what is in it.
func (c RegistryCredentials) GoString() string { return c.String() }

// ImageAt gives the reference to an image by its digest in the repository of
// ref, with ref's tag as a reminder: "shop/resize:1.2@sha256:...".
func ImageAt(ref, digest string) string {
	name, _, _ := strings.Cut(ref, "@")
	if digest == "" || strings.HasPrefix(ref, "sha256:") {
		return ref
	}
	return name + "@" + digest
}
