package invoke

import (
	"context"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Store keeps runs. Each method is one transaction.
type Store interface {
	// SaveRuns writes runs as they are now, over what was known of them. It
	// is called with as many as have gathered, by one goroutine at a time,
	// and returns when they are on disk. A full disk is an error with the
	// code disk_full; nothing is written then.
	SaveRuns(ctx context.Context, runs []core.Run) error
	// Run gives one run; core.KindNotFound.
	Run(ctx context.Context, id core.RunID) (core.Run, error)
	// Runs lists runs that pass the filter, newest first. It looks at a
	// bounded number of rows, and says in SearchedTo when it stopped there.
	Runs(ctx context.Context, filter core.RunFilter, page core.Page) (core.RunPage, error)
}

// LogStore keeps what functions print.
type LogStore interface {
	// AppendLogs writes chunks; several for one run come in order.
	AppendLogs(ctx context.Context, chunks []core.LogChunk) error
	// Logs gives up to limit lines of a run whose sequence is over after, in
	// order. A run without lines has none.
	Logs(ctx context.Context, run core.RunID, after int64, limit int) ([]core.LogLine, error)
}

// Catalog knows the functions that can be called.
type Catalog interface {
	// Find gives the version of a function that is called; core.KindNotFound.
	// What it gives is not changed by anyone.
	Find(app, function string) (*core.Definition, error)
}

// Images has the images of definitions.
type Images interface {
	// Ready reports whether the image of a definition that the catalog gave is
	// here. It is on the path of every call: it takes no lock that calls of
	// other functions take. What it says can be outdated: then Fetch mends it.
	Ready(def *core.Definition) bool
	// Fetch makes sure that the image is here, pins a version that is not
	// resolved, and gives the definition as it is then. It goes on when ctx
	// ends, for those who call later. report is told several times a second
	// how far it is, while Fetch waits; nil for none.
	Fetch(ctx context.Context, def *core.Definition, report func(core.PullProgress)) (*core.Definition, error)
}

// Hot is a contract whose instances stay hot: http and fdk.
type Hot interface {
	// Prepare adds to the spec of an instance what the contract needs.
	Prepare(def *core.Definition, spec *core.InstanceSpec)
	// Ready returns when something listens in the instance, on the port if the
	// contract has one.
	Ready(ctx context.Context, id core.InstanceID, port int) error
	// Serve passes a call to the instance and its answer to reply.
	Serve(ctx context.Context, call *core.Call, reply core.Reply) core.Outcome
	// Disconnect closes the connections that are kept to an instance, and not
	// in use. It goes on to serve.
	Disconnect(id core.InstanceID)
	// Forget lets go of an instance that is gone.
	Forget(id core.InstanceID)
}

// Job is the contract job.
type Job interface {
	// Serve starts an instance for the call and runs it to its end.
	Serve(ctx context.Context, call *core.Call, j core.Job, reply core.Reply) core.Outcome
}

// Peaks can tell the peak of an instance's memory since some time. Not every
// driver can, nor every kernel.
type Peaks interface {
	// ResetPeak makes the peak in the instance's usage one from now on; an
	// error when that cannot be had.
	ResetPeak(id core.InstanceID) error
}
