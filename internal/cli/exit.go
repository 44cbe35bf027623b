package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/client"
	"github.com/dayfly-io/dayfly/internal/manifest"
)

// The exit codes. They are promised: scripts rely on them.
const (
	exitOK             = 0
	exitError          = 1
	exitUsage          = 2
	exitNotFound       = 3
	exitNotAllowed     = 4
	exitConflict       = 5
	exitTimeout        = 6
	exitUnreachable    = 7
	exitDifferent      = 8
	exitFunctionFailed = 20
	exitInterrupted    = 130
)

// exitCodes gives the exit code of each code of a problem that the server
// answers; what does not stand here is exitError.
var exitCodes = map[string]int{
	api.CodeNotFound:        exitNotFound,
	api.CodeUnauthenticated: exitNotAllowed,
	api.CodeForbidden:       exitNotAllowed,
	api.CodeConflict:        exitConflict,

	api.ReasonTimeout:         exitTimeout,
	api.ReasonImageNotFound:   exitNotFound,
	api.ReasonExitCode:        exitFunctionFailed,
	api.ReasonFunctionError:   exitFunctionFailed,
	api.ReasonResultTooLarge:  exitFunctionFailed,
	api.ReasonOOMKilled:       exitFunctionFailed,
	api.ReasonSignal:          exitFunctionFailed,
	api.ReasonStartFailed:     exitFunctionFailed,
	api.ReasonStartTimeout:    exitFunctionFailed,
	api.ReasonCancelledByUser: exitFunctionFailed,
}

// errTold is in the chain of an error that the person has been told of.
var errTold = errors.New("told already")

// failure is an error with an exit code of its own.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }
func (f *failure) ExitCode() int { return f.code }

// ownFailure is the error of a command that stops by itself when it is
// interrupted: what goes wrong then is told.
func ownFailure(err error) error {
	var own interface{ ExitCode() int }
	if errors.As(err, &own) {
		return err
	}
	return &failure{code: exitError, err: err}
}

// usageError is an error in the command line, with where to read on.
func usageError(cmd *cobra.Command, format string, args ...any) error {
	err := fmt.Errorf(format+"\nTry '%s --help'.", append(args, cmd.CommandPath())...)
	return &failure{code: exitUsage, err: err}
}

// exitCode is the one table from errors to exit codes.
func exitCode(ctx context.Context, err error) int {
	var own interface{ ExitCode() int }
	refused, isRefused := errors.AsType[*client.Error](err)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &own):
		return own.ExitCode()
	case ctx.Err() != nil:
		return exitInterrupted
	case isRefused:
		if code, ok := exitCodes[refused.Code]; ok {
			return code
		}
		return exitError
	case errors.Is(err, client.ErrIncomplete):
		return exitFunctionFailed
	case errors.Is(err, client.ErrUnreachable), errors.Is(err, client.ErrNotDayfly):
		return exitUnreachable
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	case manifest.IsNotFound(err):
		return exitNotFound
	}
	return exitError
}

// sayError tells the person of an error.
func (s *session) sayError(err error) {
	s.chat("dayfly: %s", err)
	refused, ok := errors.AsType[*client.Error](err)
	if !ok {
		return
	}
	if refused.Explain != "" {
		s.chat("%s", refused.Explain)
	}
	if refused.RetryAfter > 0 {
		s.chat("Try again in %s.", refused.RetryAfter)
	}
	if refused.Code == api.CodeUnauthenticated {
		s.chat("Set DAYFLY_TOKEN to a token of that server.")
	}
}
