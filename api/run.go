package api

import "time"

// State is where a run stands.
type State string

// The states of a run. The last five are final.
const (
	StateScheduled State = "scheduled"
	StateQueued    State = "queued"
	StateRunning   State = "running"
	StateSucceeded State = "succeeded"
	StateFailed    State = "failed"
	StateTimedOut  State = "timed_out"
	StateCancelled State = "cancelled"
	StateExpired   State = "expired"
)

// Final reports whether a run in this state will change no more.
func (s State) Final() bool {
	switch s {
	case StateSucceeded, StateFailed, StateTimedOut, StateCancelled, StateExpired:
		return true
	default:
		return false
	}
}

// The reasons why a run ended otherwise than well; also the codes of the
// problems that a waiting caller gets.
const (
	ReasonExitCode         = "exit_code"
	ReasonFunctionError    = "function_error"
	ReasonResultTooLarge   = "result_too_large"
	ReasonOOMKilled        = "oom_killed"
	ReasonSignal           = "signal"
	ReasonTimeout          = "timeout"
	ReasonStartFailed      = "start_failed"
	ReasonStartTimeout     = "start_timeout"
	ReasonImageNotFound    = "image_not_found"
	ReasonImagePullFailed  = "image_pull_failed"
	ReasonImageUnsupported = "image_unsupported"
	ReasonCancelledByUser  = "cancelled_by_user"
	ReasonClientGone       = "client_gone"
	ReasonServerRestarted  = "server_restarted"
	ReasonDiskFull         = "disk_full"
)

// Run is one request to execute a function and what is known about it.
type Run struct {
	ID         string       `json:"id" doc:"run_ and 13 characters" example:"run_0002m1w5x1g00"`
	App        string       `json:"app"`
	Function   string       `json:"function"`
	Version    int          `json:"version"`
	State      State        `json:"state" enum:"scheduled,queued,running,succeeded,failed,timed_out,cancelled,expired"`
	Reason     string       `json:"reason,omitempty" doc:"why it ended otherwise than well"`
	Message    string       `json:"message,omitempty" doc:"what happened, for people"`
	Trigger    string       `json:"trigger" example:"http"`
	Principal  string       `json:"principal,omitempty" doc:"who asked for it"`
	Attempt    int          `json:"attempt" doc:"from 1"`
	Method     string       `json:"method,omitempty"`
	Path       string       `json:"path,omitempty" doc:"below the function's URL"`
	Status     int          `json:"status,omitempty" doc:"HTTP status that was answered"`
	ExitCode   int          `json:"exit_code,omitempty" doc:"of a job, when it is not 0"`
	Instance   string       `json:"instance,omitempty" doc:"that it ran on"`
	Cold       bool         `json:"cold" doc:"an instance was started for it"`
	CreatedAt  time.Time    `json:"created_at"`
	StartedAt  time.Time    `json:"started_at,omitzero" doc:"when the process was given the run"`
	FinishedAt time.Time    `json:"finished_at,omitzero"`
	QueueMS    Milliseconds `json:"queue_ms" doc:"how long it waited for an instance, apart from the start of one for it"`
	DurationMS Milliseconds `json:"duration_ms" doc:"how long the process worked on it, so far"`
	Start      *Start       `json:"start,omitempty" doc:"of a cold run: what the time of the instance's start went to; of another, what thawing it took, if it was frozen"`
	BytesIn    int64        `json:"bytes_in"`
	BytesOut   int64        `json:"bytes_out"`
	LogBytes   int64        `json:"log_bytes"`
	Usage      Usage        `json:"usage"`
	Waiting    *Waiting     `json:"waiting,omitempty" doc:"what a queued run waits for, where that is known"`
	Progress   *Progress    `json:"progress,omitempty" doc:"the last the run said of itself"`
}

// Start tells what the time of an instance's start went to.
type Start struct {
	ImageMS   Milliseconds `json:"image_ms" doc:"layers looked up or fetched"`
	SandboxMS Milliseconds `json:"sandbox_ms" doc:"namespaces, mounts, limits, network"`
	BootMS    Milliseconds `json:"boot_ms" doc:"from exec to the first listening"`
	ThawMS    Milliseconds `json:"thaw_ms,omitempty" doc:"of an instance that was frozen; the others are 0 then"`
}

// Total gives the sum of the phases.
func (s Start) Total() time.Duration {
	return (s.ImageMS + s.SandboxMS + s.BootMS + s.ThawMS).Duration()
}

// Usage is what a run has used.
type Usage struct {
	CPUMS           Milliseconds `json:"cpu_ms" doc:"processor time"`
	ThrottledMS     Milliseconds `json:"throttled_ms,omitempty" doc:"how long it was kept from the processors because its share (cpu) was used up"`
	MemoryBytes     int64        `json:"memory_bytes,omitempty" doc:"of a run that goes on: memory now"`
	PeakMemoryBytes int64        `json:"peak_memory_bytes" doc:"the most memory while it went on"`
	PeakOfInstance  bool         `json:"peak_of_instance,omitempty" doc:"the peak is the most since the start of the instance: this kernel does not tell it for each run"`
	OOMKills        int          `json:"oom_kills,omitempty" doc:"processes that were killed because the memory limit was reached"`
	Shared          bool         `json:"shared,omitempty" doc:"other runs were on the instance: the usage is not this run's own"`
}

// RunUsage is what a run has used, in all and over time.
type RunUsage struct {
	Usage
	Samples []UsageSample `json:"samples" nullable:"false" doc:"of a run that takes over a second: at first one each second, 64 at most, further apart the longer it takes"`
}

// UsageSample is what a run had used at one time.
type UsageSample struct {
	AtMS        Milliseconds `json:"at_ms" doc:"since the start of the run"`
	CPUMS       Milliseconds `json:"cpu_ms" doc:"processor time since the start of the run"`
	MemoryBytes int64        `json:"memory_bytes" doc:"memory of the instance then"`
}

// Progress is what a run said of how far it is.
type Progress struct {
	Percent int    `json:"percent" minimum:"0" maximum:"100"`
	Text    string `json:"text,omitempty"`
}

// WaitImage is what a run waits for whose image is being pulled.
const WaitImage = "image_pull"

// Waiting is what a queued run waits for.
type Waiting struct {
	For     string        `json:"for" enum:"image_pull"`
	Message string        `json:"message" doc:"for people" example:"image pull 63 %"`
	Pull    *PullProgress `json:"pull,omitempty"`
}
