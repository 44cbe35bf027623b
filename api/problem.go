package api

// ProblemType is the media type of a [Problem] (RFC 9457).
const ProblemType = "application/problem+json"

// The headers of Dayfly's own.
const (
	// HeaderRunID carries the id of the run in the answer of a function URL.
	HeaderRunID = "Dayfly-Run-Id"
	// HeaderError carries the code of a [Problem], in every answer that is
	// one. A function cannot set it: that tells a problem of Dayfly's from a
	// document of the same type that a function made.
	HeaderError = "Dayfly-Error"
	// HeaderRunState is the trailer with the state of a run that failed after
	// its answer had begun, for callers that send "TE: trailers". For others
	// the answer is cut off.
	HeaderRunState = "Dayfly-Run-State"
)

// The codes of problems that are not the reason of a run.
const (
	CodeNotFound        = "not_found"
	CodeInvalid         = "invalid"
	CodeConflict        = "conflict"
	CodeUnauthenticated = "unauthenticated"
	CodeForbidden       = "forbidden"
	CodeTooLarge        = "too_large"
	CodeTooMany         = "too_many"
	CodeUnavailable     = "unavailable"
	CodeNotImplemented  = "not_implemented"
	CodeInternal        = "internal"
)

// Problem tells what went wrong (RFC 9457).
type Problem struct {
	Type      string  `json:"type" doc:"about:blank: the title is that of the status" example:"about:blank"`
	Title     string  `json:"title" example:"Not Found"`
	Status    int     `json:"status" doc:"HTTP status" example:"404"`
	Code      string  `json:"code" doc:"stable name of what went wrong: a code or the reason of a run" example:"not_found"`
	Detail    string  `json:"detail,omitempty" doc:"what happened, to what, and what to do"`
	RunID     string  `json:"run_id,omitempty" doc:"the run it happened to"`
	Explain   string  `json:"explain,omitempty" doc:"what is recorded about the run's end"`
	RequestID string  `json:"request_id,omitempty" doc:"under which the server's log tells more"`
	Errors    []Fault `json:"errors,omitempty" nullable:"false" doc:"every part of the request that is wrong"`
}

// Fault is a part of a request that is wrong.
type Fault struct {
	Location string `json:"location,omitempty" doc:"where in the request" example:"body.port"`
	Message  string `json:"message"`
}
