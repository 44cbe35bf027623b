package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
)

// Name is what the file is called.
const Name = "dayfly.yaml"

// MaxSize is how large the file may be, in bytes.
const MaxSize = 1 << 20

// File is a whole dayfly.yaml.
type File struct {
	// The app the functions belong to; the app of the command line when it is left out.
	App string `yaml:"app,omitempty"`
	// The functions by name.
	Functions map[string]Function `yaml:"functions" jsonschema:"required,minProperties=1"`

	order []string
}

// Function is what the file says of one function.
type Function struct {
	// The image to run. Either this or build must be there.
	Image string `yaml:"image,omitempty" jsonschema:"minLength=1,example=shop/resize:1.2"`
	// How to make the image from source. Either this or image must be there.
	Build *Build `yaml:"build,omitempty"`
	// How the process is talked to: http is a web server on $PORT, job is a fresh process per run with the body on its stdin, fdk is a function made with a kit of the Fn Project.
	Contract core.Contract `yaml:"contract,omitempty" jsonschema:"enum=http,enum=job,enum=fdk,default=http"`
	// What to run in place of the image's entrypoint and cmd.
	Command []string `yaml:"command,omitempty"`
	// With body, a job gets its body as one argument in place of the image's cmd.
	Args string `yaml:"args,omitempty" jsonschema:"enum=body"`
	// The content type of a job's result; sniffed when it is left out.
	ContentType string `yaml:"content_type,omitempty"`
	// Whether a job's output is sent on as it is printed, and not only when it has ended well.
	Stream bool `yaml:"stream,omitempty" jsonschema:"default=false"`
	// The port an http function listens on.
	Port int `yaml:"port,omitempty" jsonschema:"minimum=1,maximum=65535,default=8080"`
	// The memory an instance may use.
	Memory core.Bytes `yaml:"memory,omitempty" jsonschema:"default=128MiB"`
	// The processors an instance may use.
	CPU core.CPU `yaml:"cpu,omitempty" jsonschema:"default=1"`
	// The share of the processors beside other instances when there are too few for all: one of 200 gets twice as much as one of 100.
	CPUWeight core.CPUWeight `yaml:"cpu_weight,omitempty" jsonschema:"minimum=1,maximum=10000,default=100"`
	// Whether the process can write to the root of its file system, and how much; it is in memory, and counts as memory.
	Root core.Root `yaml:"root,omitempty" jsonschema:"default=read_only"`
	// Directories of the host, by the names under which the server allows them.
	Mounts []Mount `yaml:"mounts,omitempty" jsonschema:"maxItems=16"`
	// How long a run may take.
	Timeout time.Duration `yaml:"timeout,omitempty" jsonschema:"default=30s"`
	// What an instance can reach: egress lets connections out, none is the loopback interface only.
	Network core.Network `yaml:"network,omitempty" jsonschema:"enum=egress,enum=none,default=egress"`
	// Environment variables.
	Env map[string]string `yaml:"env,omitempty"`
	// How many hot instances there may be, and for how long.
	Instances Instances `yaml:"instances,omitempty"`
	// How many runs of an http function go on at once.
	Concurrency Concurrency `yaml:"concurrency,omitempty"`
	// What else the function may take. Each limit has a default.
	Limits Limits `yaml:"limits,omitempty"`
	// What the function is for.
	Description string `yaml:"description,omitempty"`
	// Notes of your own: any value under a key.
	Annotations core.Annotations `yaml:"annotations,omitempty"`
}

// Mount is a directory of the host that the function sees.
type Mount struct {
	// The name under which the server allows it (dayfly server --allow-mount).
	Name string `yaml:"name" jsonschema:"required,minLength=1,example=models"`
	// Where the function finds it.
	Path string `yaml:"path" jsonschema:"required,pattern=^/,example=/data"`
	// Whether the function may only read it.
	ReadOnly bool `yaml:"read_only,omitempty" jsonschema:"default=false"`
}

// Build says how an image is made from source.
type Build struct {
	// What the source is written in.
	Runtime string `yaml:"runtime" jsonschema:"required,enum=go"`
	// The directory of the source, beside or below this file.
	Source string `yaml:"source,omitempty" jsonschema:"default=."`
}

// RuntimeGo is the runtime of a Go program.
const RuntimeGo = "go"

// Instances bounds the hot instances of a function.
type Instances struct {
	// How many are kept without being called.
	Min int `yaml:"min,omitempty" jsonschema:"minimum=0,maximum=1000,default=0" zero:"allowed"`
	// How many there may be at once; 0 means as many as memory allows.
	Max int `yaml:"max,omitempty" jsonschema:"minimum=0,default=0" zero:"allowed"`
	// How long one waits for its next run before it is ended.
	Idle time.Duration `yaml:"idle,omitempty" jsonschema:"default=60s"`
	// How long one waits for its next run before it is frozen; idle or more means never.
	Freeze time.Duration `yaml:"freeze,omitempty" jsonschema:"default=100ms"`
}

// Concurrency says how many runs go on at once.
type Concurrency struct {
	// How many requests an instance of an http function takes at a time.
	PerInstance int `yaml:"per_instance,omitempty" jsonschema:"minimum=1,maximum=1000,default=1"`
}

// Limits bounds what one function may take.
type Limits struct {
	// From the start of the process to its first listening.
	Start time.Duration `yaml:"start,omitempty" jsonschema:"default=10s"`
	// Request body of a job.
	Body core.Bytes `yaml:"body,omitempty" jsonschema:"default=10MiB"`
	// Output of a job.
	Result core.Bytes `yaml:"result,omitempty" jsonschema:"default=16MiB"`
	// Log of one run.
	Log core.Bytes `yaml:"log,omitempty" jsonschema:"default=1MiB"`
	// Header section of an answer.
	Headers core.Bytes `yaml:"headers,omitempty" jsonschema:"default=64KiB"`
	// Files in /tmp; they count as memory.
	Tmp core.Bytes `yaml:"tmp,omitempty" jsonschema:"default=64MiB"`
	// Processes and threads.
	Pids int `yaml:"pids,omitempty" jsonschema:"minimum=1,default=256"`
	// Open files per process.
	Files int `yaml:"files,omitempty" jsonschema:"minimum=1,default=1024"`
	// Calls that wait in line for an instance.
	Waiting int `yaml:"waiting,omitempty" jsonschema:"minimum=1,default=1000"`
	// How long one of them waits.
	Wait time.Duration `yaml:"wait,omitempty" jsonschema:"default=10s"`
}

// Names gives the names of the functions in the order of the file.
func (f *File) Names() []string { return slices.Clone(f.order) }

// NewVersion gives what the file says of one function, as the request for a
// new version that runs image.
func (f *File) NewVersion(name, image string) api.NewVersion {
	fn := f.Functions[name]
	l := fn.Limits
	return api.NewVersion{
		Description: fn.Description, Annotations: api.Annotations(fn.Annotations),
		Spec: api.Spec{
			Image: image, Contract: string(fn.Contract), Command: fn.Command, Args: fn.Args,
			ContentType: fn.ContentType, Stream: fn.Stream, Port: fn.Port,
			Memory: api.Bytes(fn.Memory), CPU: float64(fn.CPU) / 1000, CPUWeight: int(fn.CPUWeight), Timeout: api.Duration(fn.Timeout),
			Root: rootText(fn.Root), Mounts: mountsAs(fn.Mounts, func(m Mount) api.Mount { return api.Mount(m) }),
			Network: string(fn.Network), Env: fn.Env,
			Instances: api.InstanceBounds{
				Min: fn.Instances.Min, Max: fn.Instances.Max, Idle: api.Duration(fn.Instances.Idle), Freeze: api.Duration(fn.Instances.Freeze),
			},
			Concurrency: api.Concurrency{PerInstance: fn.Concurrency.PerInstance},
			Limits: api.Limits{
				Start: api.Duration(l.Start), Body: api.Bytes(l.Body), Result: api.Bytes(l.Result),
				Log: api.Bytes(l.Log), Headers: api.Bytes(l.Headers), Tmp: api.Bytes(l.Tmp),
				Pids: l.Pids, Files: l.Files, Waiting: l.Waiting, Wait: api.Duration(l.Wait),
			},
		},
	}
}

// rootText gives a root as the API takes it; "" for one to be read only.
func rootText(r core.Root) string {
	if r == (core.Root{}) {
		return ""
	}
	return r.String()
}

// mountsAs gives mounts as another layer has them; nil for none.
func mountsAs[T any](mounts []Mount, as func(Mount) T) []T {
	var out []T
	for _, m := range mounts {
		out = append(out, as(m))
	}
	return out
}

// Spec gives the spec of the function, run from image. What the file does not
// say is left at zero.
func (f Function) Spec(image string) core.Spec {
	l := f.Limits
	return core.Spec{
		Image: image, Contract: f.Contract, Command: f.Command, Args: f.Args,
		ContentType: f.ContentType, Stream: f.Stream, Port: f.Port,
		Memory: f.Memory, CPU: f.CPU, CPUWeight: f.CPUWeight, Timeout: f.Timeout, Network: f.Network, Env: f.Env,
		Root: f.Root, Mounts: mountsAs(f.Mounts, func(m Mount) core.Mount { return core.Mount(m) }),
		Instances:   core.Instances(f.Instances),
		Concurrency: core.Concurrency{PerInstance: f.Concurrency.PerInstance},
		Limits: core.Limits{
			Start: l.Start, Body: l.Body, Result: l.Result, Log: l.Log, Headers: l.Headers,
			Tmp: l.Tmp, Pids: l.Pids, Files: l.Files, Waiting: l.Waiting, Wait: l.Wait,
		},
	}
}

// Read reads the dayfly.yaml of a directory.
func Read(dir string) (*File, error) {
	path := filepath.Join(dir, Name)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, core.NotFound("there is no %s in %s: name the directory that has one, or make one with dayfly init", Name, dir)
	case err != nil:
		return nil, fmt.Errorf("look for the manifest: %w", err)
	case !info.Mode().IsRegular():
		return nil, core.Invalid("%s is not a file", path)
	case info.Size() > MaxSize:
		return nil, tooLarge(path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	return Parse(path, text)
}

func tooLarge(name string) error {
	return core.Invalid("%s is larger than %s, the most a manifest may have", name, core.Bytes(MaxSize))
}

// Parse reads a manifest. name is how errors call it. The error is a
// [core.Error] of kind invalid with a line for each thing that is wrong, ten
// at most.
func Parse(name string, text []byte) (*File, error) {
	if len(text) > MaxSize {
		return nil, tooLarge(name)
	}
	d := &decoder{name: name}
	file := d.file(text)
	if err := d.err(); err != nil {
		return nil, err
	}
	return file, nil
}

// IsNotFound reports whether err says that there is no manifest.
func IsNotFound(err error) bool { return core.IsKind(err, core.KindNotFound) }
