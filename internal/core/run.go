package core

import (
	"slices"
	"time"
)

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

// States are all states, in the order in which a run can have them.
var States = []State{
	StateScheduled, StateQueued, StateRunning,
	StateSucceeded, StateFailed, StateTimedOut, StateCancelled, StateExpired,
}

// Final reports whether a run in this state will change no more.
func (s State) Final() bool {
	switch s {
	case StateSucceeded, StateFailed, StateTimedOut, StateCancelled, StateExpired:
		return true
	default:
		return false
	}
}

// ParseState reads the name of a state.
func ParseState(s string) (State, error) {
	if !slices.Contains(States, State(s)) {
		return "", Invalid("%q is not a state of a run: they are %v", s, States)
	}
	return State(s), nil
}

// Reason says why a run ended otherwise than well. It is also the code of the
// error that a waiting caller gets.
type Reason = Code

// The reasons.
const (
	ReasonExitCode         Reason = "exit_code"
	ReasonFunctionError    Reason = "function_error"
	ReasonResultTooLarge   Reason = "result_too_large"
	ReasonOOMKilled        Reason = "oom_killed"
	ReasonSignal           Reason = "signal"
	ReasonTimeout          Reason = "timeout"
	ReasonStartFailed      Reason = "start_failed"
	ReasonStartTimeout     Reason = "start_timeout"
	ReasonImageNotFound    Reason = "image_not_found"
	ReasonImagePullFailed  Reason = "image_pull_failed"
	ReasonImageUnsupported Reason = "image_unsupported"
	ReasonCancelledByUser  Reason = "cancelled_by_user"
	ReasonClientGone       Reason = "client_gone"
	ReasonServerRestarted  Reason = "server_restarted"
	ReasonDiskFull         Reason = "disk_full"
	ReasonInternal         Reason = "internal"
)

// The triggers of a run.
const (
	TriggerHTTP = "http"
	TriggerAPI  = "api"
)

// Run is one request to execute a function and what is known about it.
type Run struct {
	ID         RunID
	AppID      AppID
	FunctionID FunctionID
	App        string
	Function   string
	Version    int
	State      State
	Reason     Reason // "" for a run that succeeded or goes on
	Message    string // what happened, for people; "" when there is nothing to say
	Trigger    string
	Principal  string
	Attempt    int // from 1
	Method     string
	Path       string
	// Status is the HTTP status that was answered, 0 for none.
	Status   int
	ExitCode int // of a job
	Instance InstanceID
	Cold     bool // an instance was started for it
	// CreatedAt, StartedAt and FinishedAt are in whole microseconds; the last
	// two are zero until they are.
	CreatedAt  time.Time
	StartedAt  time.Time // the process was given the run
	FinishedAt time.Time
	Start      StartPhases // of a cold run, or of one whose instance was thawed for it
	BytesIn    Bytes
	BytesOut   Bytes
	LogBytes   Bytes
	Usage      Usage
	// UsageShared is set when other runs were on the instance, so that Usage
	// is not this run's own.
	UsageShared bool
	// Waiting says what a queued run waits for, where that is known. It is of
	// the moment, and not kept.
	Waiting *Waiting
	// PeakOfInstance is set when Usage.PeakMemory is the most that the instance
	// had since its start, and not since the run began: this kernel does not
	// tell.
	PeakOfInstance bool
	// Samples tell of a run that takes over a second what it used when.
	Samples []UsageSample
	// Progress is the last the run said of itself, in hundredths, -1 for
	// nothing said.
	Progress     int
	ProgressText string
}

// WaitReason names what a run waits for.
type WaitReason string

// What a run can wait for.
const (
	// WaitImage is for the image of its function to be pulled.
	WaitImage WaitReason = "image_pull"
)

// Waiting is what a queued run waits for.
type Waiting struct {
	For     WaitReason
	Message string // for people: "image pull 63 %"
	// Pull is set when it waits for an image.
	Pull *PullProgress
}

// UsageSample is what a run had used at one time.
type UsageSample struct {
	// At counts from the start of the run.
	At time.Duration
	// CPU is the processor time since the run began.
	CPU time.Duration
	// Memory is what the instance had then.
	Memory Bytes
}

// MaxSamples bounds the samples of a run. When there are so many, every other
// one goes, and from then on they are taken half as often.
const MaxSamples = 64

// SampleEvery is how often samples are taken at first.
const SampleEvery = time.Second

// Sample notes what the run has used, if it is time to. What was noted before
// is not changed, only left out: who has the run as it was may go on to read.
func (r *Run) Sample(s UsageSample) {
	every := SampleEvery
	if n := len(r.Samples); n > 1 {
		every = r.Samples[1].At - r.Samples[0].At
	}
	// Whoever asks does so about every SampleEvery: what comes a little early
	// is on time.
	if n := len(r.Samples); n > 0 && s.At < r.Samples[n-1].At+every-SampleEvery/2 {
		return
	}
	if len(r.Samples) >= MaxSamples {
		var kept []UsageSample
		for i := 1; i < len(r.Samples); i += 2 {
			kept = append(kept, r.Samples[i])
		}
		r.Samples = kept
		if s.At < kept[len(kept)-1].At+2*every-SampleEvery/2 {
			return
		}
	}
	r.Samples = append(r.Samples, s)
}

// Queue gives how long the run waited for an instance, apart from the start or
// thaw of one for it. One that never got an instance waited until it ended.
func (r Run) Queue() time.Duration {
	if r.StartedAt.IsZero() {
		if r.FinishedAt.IsZero() {
			return 0
		}
		return max(r.FinishedAt.Sub(r.CreatedAt), 0)
	}
	return max(r.StartedAt.Sub(r.CreatedAt)-r.Start.Total(), 0)
}

// Duration gives how long the process worked on the run; for one that goes
// on, until now.
func (r Run) Duration(now time.Time) time.Duration {
	switch {
	case r.StartedAt.IsZero():
		return 0
	case r.FinishedAt.IsZero():
		return now.Sub(r.StartedAt)
	}
	return r.FinishedAt.Sub(r.StartedAt)
}

// Orphaned gives the run as a server finds it that ended at the instant at
// without seeing it through: failed, with the reason server_restarted.
func (r Run) Orphaned(at time.Time) Run {
	r.State, r.Reason = StateFailed, ReasonServerRestarted
	r.Message = "the server stopped while the run went on, so what became of it is not known: run it again if that does no harm"
	r.FinishedAt = at.Truncate(time.Microsecond)
	for _, earlier := range []time.Time{r.CreatedAt, r.StartedAt} {
		if r.FinishedAt.Before(earlier) {
			r.FinishedAt = earlier
		}
	}
	return r
}

// RunFilter says which runs are wanted. Zero fields let everything pass.
type RunFilter struct {
	App      string
	Function string
	States   []State
	Since    time.Time // created at or after
	Until    time.Time // created before
}

// Match reports whether the run passes.
func (f RunFilter) Match(r Run) bool {
	return (f.App == "" || f.App == r.App) &&
		(f.Function == "" || f.Function == r.Function) &&
		(len(f.States) == 0 || slices.Contains(f.States, r.State)) &&
		(f.Since.IsZero() || !r.CreatedAt.Before(f.Since)) &&
		(f.Until.IsZero() || r.CreatedAt.Before(f.Until))
}

// RunPage is a part of a list of runs, newest first.
type RunPage struct {
	Runs []Run
	// Next is the cursor of the next page, "" after the last.
	Next string
	// SearchedTo is set when the search stopped at its limit of work before
	// the page was full: everything made at or after it has been looked at.
	SearchedTo time.Time
}

// RunCounter tells how many runs of a function have ended in a state since
// the store began. It never falls: runs that were forgotten and runs of
// deleted functions stay counted.
type RunCounter struct {
	AppID      AppID
	FunctionID FunctionID
	App        string
	Function   string
	State      State
	Count      int64
}
