package core

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Contract says how Dayfly talks to the process in a container.
type Contract string

// The contracts.
const (
	// ContractJob is a fresh container per run: body on stdin, result on
	// stdout, log on stderr, the exit code is the verdict.
	ContractJob Contract = "job"
	// ContractHTTP is a web server on $PORT that stays hot between runs.
	ContractHTTP Contract = "http"
	// ContractFDK is that of the Fn Project: the image listens on a Unix socket
	// and takes one request at a time. It stays hot between runs.
	ContractFDK Contract = "fdk"
)

// Network says what an instance can reach.
type Network string

// The networks.
const (
	// NetworkEgress lets connections out, but not to the host, to other
	// instances, to link-local or metadata addresses.
	NetworkEgress Network = "egress"
	// NetworkNone has the loopback interface only.
	NetworkNone Network = "none"
)

// Function is a named unit of work in an app. What it is made of is in its
// versions; Version is the number of the one that is called.
type Function struct {
	ID          FunctionID
	AppID       AppID
	Name        string
	Description string
	Annotations Annotations
	Version     int
	// Revision rises with every change; the ETag is made of it.
	Revision  int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// ETag gives the entity tag of the function as it is.
func (f Function) ETag() string { return `"` + strconv.FormatInt(f.Revision, 36) + `"` }

// Spec is what a version is made of, apart from its image's digest. The zero
// value of a field means the default that [Spec.WithDefaults] fills in.
type Spec struct {
	Image       string            `json:"image"`
	Contract    Contract          `json:"contract"`
	Command     []string          `json:"command,omitempty"`
	Args        string            `json:"args,omitempty"`
	ContentType string            `json:"content_type,omitempty"`
	Stream      bool              `json:"stream,omitempty"`
	Port        int               `json:"port,omitempty"`
	Memory      Bytes             `json:"memory"`
	CPU         CPU               `json:"cpu"`
	CPUWeight   CPUWeight         `json:"cpu_weight"`
	Root        Root              `json:"root,omitzero"`
	Mounts      []Mount           `json:"mounts,omitempty"`
	Timeout     time.Duration     `json:"timeout"`
	Network     Network           `json:"network"`
	Env         map[string]string `json:"env,omitempty"`
	Instances   Instances         `json:"instances"`
	Concurrency Concurrency       `json:"concurrency"`
	Limits      Limits            `json:"limits"`
}

// ArgsBody is the value of Spec.Args that passes the body of a job as one
// argument in place of the image's CMD.
const ArgsBody = "body"

// Instances bounds the hot instances of a function.
type Instances struct {
	// Min is how many are kept without being called.
	Min int `json:"min,omitempty"`
	// Max is how many there may be at once; 0 means no bound but memory.
	Max int `json:"max,omitempty"`
	// Idle is how long one waits for its next run before it is ended.
	Idle time.Duration `json:"idle"`
	// Freeze is how long one waits before it is frozen, where the driver can
	// do that; not shorter than Idle means never.
	Freeze time.Duration `json:"freeze"`
}

// Concurrency says how many runs go on at once.
type Concurrency struct {
	// PerInstance is how many requests an instance takes at a time.
	PerInstance int `json:"per_instance"`
}

// MaxPerInstance is the most requests that an instance may take at a time.
const MaxPerInstance = 1000

// MaxMin is the most instances that may be kept without being called.
const MaxMin = 1000

// Limits bounds what one function may take. Each has a default.
type Limits struct {
	Start   time.Duration `json:"start"`   // from the start of the process to its first listening
	Body    Bytes         `json:"body"`    // request body of a job
	Result  Bytes         `json:"result"`  // stdout of a job
	Log     Bytes         `json:"log"`     // log of one run
	Headers Bytes         `json:"headers"` // response header section
	Tmp     Bytes         `json:"tmp"`     // /tmp, counted into memory
	Pids    int           `json:"pids"`    // processes and threads
	Files   int           `json:"files"`   // open files per process
	Waiting int           `json:"waiting"` // calls that wait in line for an instance
	Wait    time.Duration `json:"wait"`    // how long one of them waits
}

// The defaults and bounds of a spec (contracts: "Limits and defaults").
const (
	DefaultMemory  = 128 * MiB
	MinMemory      = 4 * MiB
	MaxMemory      = 4 * TiB
	DefaultCPU     = CPU(1000)
	DefaultTimeout = 30 * time.Second
	MaxTimeout     = 24 * time.Hour
	DefaultIdle    = 60 * time.Second
	DefaultFreeze  = 100 * time.Millisecond
	DefaultPort    = 8080
	MaxArgument    = 128 * KiB
)

// DefaultLimits are the limits of a function that sets none.
var DefaultLimits = Limits{
	Start:   10 * time.Second,
	Body:    10 * MiB,
	Result:  16 * MiB,
	Log:     1 * MiB,
	Headers: 64 * KiB,
	Tmp:     64 * MiB,
	Pids:    256,
	Files:   1024,
	Waiting: 1000,
	Wait:    10 * time.Second,
}

// WithDefaults gives the spec with every unset field filled in.
func (s Spec) WithDefaults() Spec {
	d, l := DefaultLimits, s.Limits
	s.Contract = or(s.Contract, ContractHTTP)
	s.Network = or(s.Network, NetworkEgress)
	s.Memory = or(s.Memory, DefaultMemory)
	s.CPU = or(s.CPU, DefaultCPU)
	s.CPUWeight = or(s.CPUWeight, DefaultCPUWeight)
	s.Timeout = or(s.Timeout, DefaultTimeout)
	s.Instances.Idle = or(s.Instances.Idle, DefaultIdle)
	s.Instances.Freeze = or(s.Instances.Freeze, DefaultFreeze)
	s.Concurrency.PerInstance = or(s.Concurrency.PerInstance, 1)
	if s.Contract == ContractHTTP {
		s.Port = or(s.Port, portOf(s.Env), DefaultPort)
	}
	s.Limits = Limits{
		Start: or(l.Start, d.Start), Body: or(l.Body, d.Body), Result: or(l.Result, d.Result),
		Log: or(l.Log, d.Log), Headers: or(l.Headers, d.Headers), Tmp: or(l.Tmp, d.Tmp),
		Pids: or(l.Pids, d.Pids), Files: or(l.Files, d.Files), Waiting: or(l.Waiting, d.Waiting), Wait: or(l.Wait, d.Wait),
	}
	return s
}

// or gives the first of the values that is set.
func or[T comparable](values ...T) T {
	var zero T
	for _, v := range values {
		if v != zero {
			return v
		}
	}
	return zero
}

// portOf gives the port that a function's env names as PORT, 0 for none.
func portOf(env map[string]string) int {
	port, err := strconv.Atoi(env["PORT"])
	if err != nil {
		return 0
	}
	return port
}

// Equal reports whether both say the same; nil and empty are the same.
func (s Spec) Equal(o Spec) bool {
	if !slices.Equal(s.Command, o.Command) || !slices.Equal(s.Mounts, o.Mounts) || !maps.Equal(s.Env, o.Env) {
		return false
	}
	s.Command, s.Mounts, s.Env, o.Command, o.Mounts, o.Env = nil, nil, nil, nil, nil, nil
	return reflect.DeepEqual(s, o)
}

// Validate checks a spec whose defaults are filled in.
func (s Spec) Validate() error {
	switch {
	case s.Image == "":
		return Invalid("the function has no image: name one, or say how to build it")
	case s.Contract != ContractJob && s.Contract != ContractHTTP && s.Contract != ContractFDK:
		return Invalid("the contract %q is not known: it is job, http or fdk", s.Contract)
	case s.Network != NetworkEgress && s.Network != NetworkNone:
		return Invalid("the network %q is not known: it is egress or none", s.Network)
	case s.Memory < MinMemory || s.Memory > MaxMemory:
		return Invalid("the memory %s is out of bounds: %s to %s", s.Memory, MinMemory, MaxMemory)
	case s.CPU < MinCPU || s.CPU > MaxCPU:
		return Invalid("the cpu %s is out of bounds: %s to %s", s.CPU, MinCPU, MaxCPU)
	case s.CPUWeight < MinCPUWeight || s.CPUWeight > MaxCPUWeight:
		return Invalid("cpu_weight is %d; it may be %d to %d", s.CPUWeight, MinCPUWeight, MaxCPUWeight)
	case s.Root.Writable != 0 && s.Root.Writable < MinRoot:
		return Invalid("the root is %s; %s is the least that can be writable", s.Root, MinRoot)
	case s.Root.Writable > s.Memory:
		return Invalid("the root is %s, which is more than the memory of %s; what is written there counts as memory: raise memory, or make the root smaller", s.Root, s.Memory)
	case s.Timeout < time.Millisecond || s.Timeout > MaxTimeout:
		return Invalid("the timeout %s is out of bounds: 1ms to %s", s.Timeout, MaxTimeout)
	case s.Args != "" && s.Args != ArgsBody:
		return Invalid("args is %q: it can only be %q", s.Args, ArgsBody)
	}
	if err := s.validateContract(); err != nil {
		return err
	}
	if err := s.Limits.validate(); err != nil {
		return err
	}
	if err := validateMounts(s.Mounts); err != nil {
		return err
	}
	if err := s.validateInstances(); err != nil {
		return err
	}
	return validateEnv(s.Env)
}

func (s Spec) validateInstances() error {
	i := s.Instances
	switch {
	case i.Max < 0:
		return Invalid("instances.max is %d; it may be 1 or more, or 0 for no bound", i.Max)
	case i.Min < 0 || i.Min > MaxMin:
		return Invalid("instances.min is %d; it may be 0 to %d", i.Min, MaxMin)
	case i.Max > 0 && i.Min > i.Max:
		return Invalid("instances.min is %d and instances.max is %d: raise max, or lower min", i.Min, i.Max)
	case i.Min > 0 && s.Contract == ContractJob:
		return Invalid("instances.min is not for the contract job: a job has a fresh instance per run")
	case i.Idle < time.Millisecond:
		return Invalid("instances.idle is %s; it may be 1ms or more", i.Idle)
	case i.Freeze < time.Millisecond:
		return Invalid("instances.freeze is %s; it may be 1ms or more, and not under instances.idle for never", i.Freeze)
	}
	return nil
}

func (s Spec) validateContract() error {
	one := s.Concurrency.PerInstance == 1
	switch {
	case s.Contract == ContractHTTP:
	case s.Contract == ContractJob && s.Port != 0:
		return Invalid("a job has no port; leave port out, or use the contract http")
	case s.Contract == ContractJob && !one:
		return Invalid("concurrency.per_instance is for the contract http only; a job has an instance of its own")
	case s.Contract == ContractJob:
		return nil
	case s.Port != 0:
		return Invalid("a function of the contract fdk has no port; leave port out, or use the contract http")
	case !one:
		return Invalid("concurrency.per_instance is for the contract http only; a function of the contract fdk takes one request at a time")
	}
	switch {
	case s.Concurrency.PerInstance < 1 || s.Concurrency.PerInstance > MaxPerInstance:
		return Invalid("concurrency.per_instance is %d; it may be 1 to %d", s.Concurrency.PerInstance, MaxPerInstance)
	case s.Contract == ContractHTTP && (s.Port < 1 || s.Port > 65535):
		return Invalid("the port %d is out of bounds: 1 to 65535", s.Port)
	case s.Args != "":
		return Invalid("args is for the contract job only")
	case s.Stream:
		return Invalid("stream is for the contract job only; the others stream by themselves")
	case s.ContentType != "":
		return Invalid("content_type is for the contract job only; functions of the others set their own")
	}
	return nil
}

func (l Limits) validate() error {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"start", l.Start}, {"wait", l.Wait}} {
		if d.value < time.Millisecond || d.value > time.Hour {
			return Invalid("limits.%s is %s; it may be 1ms to 1h", d.name, d.value)
		}
	}
	for _, b := range []struct {
		name  string
		value Bytes
		most  Bytes
	}{
		{"body", l.Body, GiB},
		{"result", l.Result, GiB},
		{"log", l.Log, 64 * MiB},
		{"headers", l.Headers, MiB},
		{"tmp", l.Tmp, TiB},
	} {
		if b.value < 1 || b.value > b.most {
			return Invalid("limits.%s is %s; it may be 1B to %s", b.name, b.value, b.most)
		}
	}
	for _, n := range []struct {
		name        string
		value, most int
	}{{"pids", l.Pids, 1 << 22}, {"files", l.Files, 1 << 20}, {"waiting", l.Waiting, 1_000_000}} {
		if n.value < 1 || n.value > n.most {
			return Invalid("limits.%s is %d; it may be 1 to %d", n.name, n.value, n.most)
		}
	}
	return nil
}

func validateEnv(env map[string]string) error {
	for k, v := range env {
		if k == "" || strings.ContainsAny(k, "=\x00") {
			return Invalid("the env name %q is empty or has a = or a zero byte in it", k)
		}
		if strings.HasPrefix(k, "DAYFLY_") {
			return Invalid("the env name %q begins with DAYFLY_, which is kept for Dayfly's own", k)
		}
		if strings.ContainsRune(v, 0) {
			return Invalid("the value of env %s has a zero byte in it", k)
		}
	}
	return nil
}
