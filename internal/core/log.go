package core

import "time"

// Stream is where a log line was printed.
type Stream uint8

// The streams.
const (
	StreamStdout Stream = 1
	StreamStderr Stream = 2
	// StreamSystem is Dayfly's own voice in a log: cuts and kills.
	StreamSystem Stream = 3
)

// String gives the name of the stream.
func (s Stream) String() string {
	switch s {
	case StreamStdout:
		return "stdout"
	case StreamStderr:
		return "stderr"
	default:
		return "system"
	}
}

// LogFrame is the word with which a process marks where the log of a run
// begins, if its contract has it do that: a line of its own, the word, an equals
// sign and the id of the run. Marks are no part of a log.
const LogFrame = "DAYFLY_RUN_ID"

// LogLine is one line that a function printed.
type LogLine struct {
	Instance InstanceID
	Run      RunID // 0 for a line of no run
	Stream   Stream
	// Sequence rises by one with each line of a run.
	Sequence int64
	Time     time.Time
	Text     string // without the line's end
}

// LogChunk is a piece of a run's log, in order.
type LogChunk struct {
	AppID      AppID
	FunctionID FunctionID
	Run        RunID // 0 for lines of no run
	Instance   InstanceID
	Lines      []LogLine
}
