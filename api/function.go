package api

import "time"

// The contracts: how Dayfly talks to the process in a container.
const (
	ContractJob  = "job"
	ContractHTTP = "http"
	ContractFDK  = "fdk"
)

// The networks: what an instance can reach.
const (
	NetworkEgress = "egress"
	NetworkNone   = "none"
)

// ArgsBody is the value of Spec.Args that passes the body of a job as one
// argument in place of the image's CMD.
const ArgsBody = "body"

// Spec is what a version of a function is made of. A field left out means its
// default; an answer has them all filled in.
type Spec struct {
	Image       string            `json:"image" minLength:"1" doc:"name of an image that the server has or a registry, or a digest" example:"shop/resize:1.2"`
	Contract    string            `json:"contract,omitempty" enum:"job,http,fdk" doc:"how the process is talked to; http unless set"`
	Command     []string          `json:"command,omitempty" nullable:"false" doc:"in place of the image's entrypoint and cmd"`
	Args        string            `json:"args,omitempty" enum:"body" doc:"job only: body makes the request body one argument in place of the image's cmd"`
	ContentType string            `json:"content_type,omitempty" doc:"job only: the type of the result"`
	Stream      bool              `json:"stream,omitempty" doc:"job only: answer from the first byte on, not at the end"`
	Port        int               `json:"port,omitempty" minimum:"1" maximum:"65535" doc:"http only: where the process listens; 8080 unless set"`
	Memory      Bytes             `json:"memory,omitzero" doc:"a number and a unit; 128MiB unless set" example:"128MiB"`
	CPU         float64           `json:"cpu,omitempty" minimum:"0.01" maximum:"1024" doc:"processors; 1 unless set" example:"0.5"`
	CPUWeight   int               `json:"cpu_weight,omitempty" minimum:"1" maximum:"10000" doc:"the share of the processors beside other instances when there are too few for all; 100 unless set"`
	Root        string            `json:"root,omitempty" pattern:"^(read_only|writable\\([0-9.]+ ?[kKMGT]?i?B\\))$" doc:"whether the process can write to the root of its file system, and how much, in memory: read_only unless set, or writable(SIZE)" example:"writable(64MiB)"`
	Mounts      []Mount           `json:"mounts,omitempty" nullable:"false" maxItems:"16" doc:"directories of the host"`
	GPUs        any               `json:"gpus,omitempty" doc:"refused with not_implemented"`
	Devices     any               `json:"devices,omitempty" doc:"refused with not_implemented"`
	Timeout     Duration          `json:"timeout,omitzero" doc:"of a waiting call; 30s unless set" example:"30s"`
	Network     string            `json:"network,omitempty" enum:"egress,none" doc:"what an instance can reach; egress unless set"`
	Env         map[string]string `json:"env,omitempty"`
	Instances   InstanceBounds    `json:"instances,omitzero"`
	Concurrency Concurrency       `json:"concurrency,omitzero"`
	Limits      Limits            `json:"limits,omitzero"`
}

// Mount is a directory of the host that a function sees.
type Mount struct {
	Name     string `json:"name" minLength:"1" doc:"under which the server allows it" example:"models"`
	Path     string `json:"path" pattern:"^/" doc:"where the function finds it" example:"/data"`
	ReadOnly bool   `json:"read_only,omitempty" doc:"the function may only read it"`
}

// InstanceBounds bounds the hot instances of a function.
type InstanceBounds struct {
	Min    int      `json:"min,omitempty" minimum:"0" maximum:"1000" doc:"http and fdk: how many are kept without being called"`
	Max    int      `json:"max,omitempty" minimum:"0" doc:"how many there may be at once; 0 means no bound but memory"`
	Idle   Duration `json:"idle,omitzero" doc:"how long one waits for its next run before it is ended; 60s unless set" example:"60s"`
	Freeze Duration `json:"freeze,omitzero" doc:"how long one waits for its next run before it is frozen; 100ms unless set, idle or more for never" example:"100ms"`
}

// Concurrency says how many runs go on at once.
type Concurrency struct {
	PerInstance int `json:"per_instance,omitempty" minimum:"1" maximum:"1000" doc:"http only: how many requests an instance takes at a time; 1 unless set"`
}

// Limits bounds what one function may take. Each has a default.
type Limits struct {
	Start   Duration `json:"start,omitzero" doc:"from the start of the process to its first listening; 10s unless set" example:"10s"`
	Body    Bytes    `json:"body,omitzero" doc:"request body of a job; 10MiB unless set" example:"10MiB"`
	Result  Bytes    `json:"result,omitzero" doc:"stdout of a job; 16MiB unless set" example:"16MiB"`
	Log     Bytes    `json:"log,omitzero" doc:"log of one run; 1MiB unless set" example:"1MiB"`
	Headers Bytes    `json:"headers,omitzero" doc:"response header section; 64KiB unless set" example:"64KiB"`
	Tmp     Bytes    `json:"tmp,omitzero" doc:"/tmp, counted into memory; 64MiB unless set" example:"64MiB"`
	Pids    int      `json:"pids,omitempty" minimum:"1" doc:"processes and threads; 256 unless set"`
	Files   int      `json:"files,omitempty" minimum:"1" doc:"open files per process; 1024 unless set"`
	Waiting int      `json:"waiting,omitempty" minimum:"1" doc:"calls that wait in line for an instance; 1000 unless set"`
	Wait    Duration `json:"wait,omitzero" doc:"how long one of them waits; 10s unless set" example:"10s"`
}

// NewVersion asks for a new version of a function.
type NewVersion struct {
	Description string      `json:"description,omitempty"`
	Annotations Annotations `json:"annotations,omitempty"`
	Spec
}

// Function is a function with the version of it that is called.
type Function struct {
	ID          string      `json:"id" doc:"fn_ and 13 characters" example:"fn_0002m1w5x1g00"`
	App         string      `json:"app"`
	Name        string      `json:"name"`
	Path        string      `json:"path" doc:"of the function's URL on this server" example:"/f/default/hello"`
	Description string      `json:"description,omitempty"`
	Annotations Annotations `json:"annotations,omitempty"`
	Version     int         `json:"version" doc:"number of the version that is called, from 1"`
	Digest      string      `json:"digest" doc:"of the image's manifest; empty while the version is unresolved" example:"sha256:9f86d0..."`
	Unresolved  bool        `json:"unresolved,omitempty" doc:"which image the version has is found out at its first call"`
	Spec
	Kept       *Kept     `json:"kept,omitempty" doc:"with instances.min, when one function is shown: how many of these there are"`
	ETag       string    `json:"etag" doc:"for If-Match"`
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
	DeployedAt time.Time `json:"deployed_at" doc:"when the version was made"`
	DeployedBy string    `json:"deployed_by,omitempty" doc:"who made the version"`
}
