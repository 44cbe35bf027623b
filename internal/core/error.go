package core

import (
	"errors"
	"fmt"
)

// Kind sorts errors by what the caller can do about them. Each kind has one
// HTTP status (internal/httpapi) and one exit code (internal/cli).
type Kind string

// The kinds of error.
const (
	KindInvalid         Kind = "invalid"         // the request is wrong; mend it
	KindNotFound        Kind = "not_found"       // the thing named does not exist
	KindConflict        Kind = "conflict"        // the thing is in another state than the request supposes
	KindUnauthenticated Kind = "unauthenticated" // no principal
	KindForbidden       Kind = "forbidden"       // the principal may not do this
	KindTooLarge        Kind = "too_large"       // the input is over a limit
	KindExhausted       Kind = "exhausted"       // the caller's own limit is used up; later
	KindTimeout         Kind = "timeout"         // a limit of time ran out
	KindUnavailable     Kind = "unavailable"     // the server cannot now; later
	KindFunction        Kind = "function"        // the function failed, Dayfly did not
	KindNotImplemented  Kind = "not_implemented" // this server does not do that
	KindInternal        Kind = "internal"        // a defect of ours
)

// Code is the stable, machine-readable name of an error: a [Reason] of a run
// or one of the codes below. Clients may rely on it.
type Code string

// The codes that are not reasons of a run.
const (
	CodeNotFound        Code = "not_found"
	CodeInvalid         Code = "invalid"
	CodeConflict        Code = "conflict"
	CodeUnauthenticated Code = "unauthenticated"
	CodeForbidden       Code = "forbidden"
	CodeTooLarge        Code = "too_large"
	CodeTooMany         Code = "too_many"
	CodeUnavailable     Code = "unavailable"
	CodeNotImplemented  Code = "not_implemented"
	CodeInternal        Code = "internal"
)

// Error is an error that a person sees. Message says what happened, to what
// and what to do; Err is the cause, for the log.
type Error struct {
	Kind    Kind
	Code    Code
	Message string
	Err     error
	// RetryAfter is the number of seconds after which to try again, 0 when
	// there is none to name.
	RetryAfter int
}

// Error gives the message and the cause.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an [Error] without a cause.
func Errorf(kind Kind, code Code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Invalid makes an error for input that is wrong.
func Invalid(format string, args ...any) *Error {
	return Errorf(KindInvalid, CodeInvalid, format, args...)
}

// NotFound makes an error for a thing that does not exist.
func NotFound(format string, args ...any) *Error {
	return Errorf(KindNotFound, CodeNotFound, format, args...)
}

// Conflict makes an error for a change that met another one.
func Conflict(format string, args ...any) *Error {
	return Errorf(KindConflict, CodeConflict, format, args...)
}

// Unavailable makes an error for what cannot be done now, with its cause.
func Unavailable(code Code, err error, format string, args ...any) *Error {
	return &Error{Kind: KindUnavailable, Code: code, Message: fmt.Sprintf(format, args...), Err: err}
}

// AsError finds the [Error] in err's chain; for an err without one it makes
// one of kind internal whose message does not show the cause.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: KindInternal, Code: CodeInternal, Message: "internal error", Err: err}
}

// IsKind reports whether err carries an [Error] of the kind.
func IsKind(err error, kind Kind) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == kind
}
