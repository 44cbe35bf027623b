package core

import (
	"errors"
	"fmt"
	"time"
)

// InstanceSpec is what a driver needs to start an instance.
type InstanceSpec struct {
	ID       InstanceID
	App      string
	Function string
	Version  int
	// Digest is that of the image's manifest.
	Digest   string
	Command  []string // in place of the image's entrypoint and cmd
	Argument *string  // in place of the image's cmd
	Env      []string // K=V, after the image's own
	Memory   Bytes
	CPU      CPU
	// CPUWeight is the share of the processors beside other instances.
	CPUWeight CPUWeight
	Pids      int
	Files     int
	Tmp       Bytes
	Network   Network
	// Root says whether the process can write to the root file system. A
	// writable one is in memory, and counts as such; when it is full, writing
	// fails with ENOSPC.
	Root Root
	// Mounts are directories of the host, by the names under which the driver
	// was told to allow them. One that is not allowed is an error of the start
	// ([KindForbidden]); one whose path does not exist in the image is made.
	Mounts []Mount
	// User runs the process, as uid:gid, in place of the image's; "" for the
	// image's.
	User string
	// SocketDir is an absolute path in the instance, of a directory that the
	// process can write to, where it makes Unix sockets that the server
	// reaches; "" for none.
	SocketDir string
	// Detached makes the instance outlive the server: its output goes to
	// files of the driver, and its exit is kept until it is asked for.
	Detached bool
}

// InstanceState is what an instance is doing.
type InstanceState string

// The states of an instance.
const (
	InstanceStarting InstanceState = "starting"
	InstanceBusy     InstanceState = "busy"
	InstanceHot      InstanceState = "hot"
	InstanceFrozen   InstanceState = "frozen"
	InstanceStopping InstanceState = "stopping"
)

// Instance is a live container that serves a version.
type Instance struct {
	ID        InstanceID
	App       string
	Function  string
	Version   int
	Driver    string
	State     InstanceState
	Memory    Bytes
	Served    int64
	StartedAt time.Time
	UsedAt    time.Time
	// FrozenAt is when it was frozen; zero while it is not.
	FrozenAt time.Time
	// Thaws is how often it was frozen and then thawed.
	Thaws int64
	Start StartPhases
}

// StartPhases tells what the time went to until an instance could take a run:
// that of a start, or of a thaw.
type StartPhases struct {
	Image   time.Duration // layers looked up or fetched
	Sandbox time.Duration // namespaces, mounts, limits, network
	Boot    time.Duration // from exec to the first listening
	Thaw    time.Duration // of one that was frozen; the others are zero then
}

// Total gives the sum of the phases.
func (p StartPhases) Total() time.Duration { return p.Image + p.Sandbox + p.Boot + p.Thaw }

// Kept tells about the instances of a version that are kept without being
// called.
type Kept struct {
	Want  int // instances.min
	Ready int // of these, the ones that there are
	// Problem says why there are not more, or did so a moment ago; "" for
	// nothing to say. RetryAt is when the next start is tried, zero for at once.
	Problem string
	RetryAt time.Time
}

// Usage is what an instance has used.
type Usage struct {
	// CPU is processor time; Throttled is how long the instance was kept from
	// the processors because it had used up its share of them.
	CPU, Throttled time.Duration
	// Memory is what it has now, PeakMemory the most that it had.
	Memory, PeakMemory Bytes
	// OOMKills counts the processes that the kernel ended because the memory
	// limit was reached.
	OOMKills int
}

// Exit tells how an instance ended.
type Exit struct {
	// Code is the exit code of the process, or 128 plus the signal.
	Code int
	// Signal is the signal that ended the process, 0 for none.
	Signal int
	// OOM is set when the kernel ended the process because the memory limit was
	// reached, or a process that it waited for and whose end it passed on as
	// the code 137, as shells do. Where it went on without those that were
	// ended, and where the driver ended it, OOM is not set, and
	// [Usage.OOMKills] may tell of others.
	OOM bool
	// Lost is set when how it ended could not be learned.
	Lost bool
	// Usage is that of the whole life.
	Usage Usage
	At    time.Time
}

// ByOOM decides about [Exit.OOM]: whether a process that ended so, by itself,
// was ended for memory when the kernel has ended some of its instance for that.
func (e Exit) ByOOM(kills int) bool {
	const killed = 128 + 9 // by SIGKILL, as a shell tells it
	return kills > 0 && (e.Signal == 9 || e.Signal == 0 && e.Code == killed)
}

// String says in words how the process ended.
func (e Exit) String() string {
	switch {
	case e.OOM:
		return "it was killed because it reached its memory limit"
	case e.Lost:
		return "it ended and left no exit code"
	case e.Signal != 0:
		return fmt.Sprintf("it was killed by signal %d", e.Signal)
	}
	return fmt.Sprintf("it exited with code %d", e.Code)
}

// ErrGone is the error of a driver that is asked about an instance it does
// not have (any more).
var ErrGone = errors.New("no such instance")
