package pool

import (
	"context"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/keepalive"
)

// member is an instance of a line. Its line's mu guards it.
type member struct {
	id       core.InstanceID
	driver   string
	start    core.StartPhases
	began    time.Time
	served   int64
	state    core.InstanceState
	load     int  // runs it has now
	leaving  bool // it takes no more runs, and ends when it has none
	stopped  bool // somebody ends it
	ice      ice
	since    time.Time // idle since then
	uses     keepalive.Uses
	counted  int64   // of served, those that are in uses
	priority float64 // among idle instances, when it became idle
}

// ice is where an instance stands between running and frozen.
//
//	runs ──▶ chosen ──▶ freezing ──▶ frozen ──▶ thawing ──▶ runs
//	 ▲          │           │ └─── taken ──────────▲          │
//	 └─ taken ──┴─ failed ──┘                                 │
//	 └────────────────────────────────────────────────────────┘
type ice struct {
	state  iceState
	at     time.Time          // when it was frozen
	thaws  int64              // how often
	stop   context.CancelFunc // ends the freezing that is under way
	melted chan struct{}      // closed when it is thawed, or has not been frozen
	stiff  bool               // freezing it has failed: it is not tried again before its next run
}

type iceState int

const (
	runs iceState = iota
	chosen
	freezing
	frozen
	thawing
)
