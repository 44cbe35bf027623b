package api

import "time"

// The streams of a log line.
const (
	StreamStdout = "stdout"
	StreamStderr = "stderr"
	// StreamSystem is Dayfly's own voice in a log: cuts and kills.
	StreamSystem = "system"
)

// LogLine is one line that a run printed.
type LogLine struct {
	Sequence int64     `json:"sequence" doc:"rises with each line of a run"`
	Time     time.Time `json:"time"`
	Stream   string    `json:"stream" enum:"stdout,stderr,system"`
	Text     string    `json:"text" doc:"without the line's end"`
}

// Logs is a part of a run's log, in order.
type Logs struct {
	Lines []LogLine `json:"lines" nullable:"false"`
}

// The events of a followed log: EventLog carries a [LogLine], EventEnd the
// [Run] in its final state, EventError a [Problem].
const (
	EventLog   = "log"
	EventEnd   = "end"
	EventError = "error"
)
