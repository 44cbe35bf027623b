package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// Options say for which server is looked. Those of Command are the defaults.
type Options struct {
	Data, Listen, DockerHost string
	Now                      func() time.Time
}

// unfitError is the error of a machine on which no server runs. The exit code is
// that of errors.
type unfitError struct{ error }

func (unfitError) ExitCode() int { return 1 }

// Command gives the command "doctor". look is [Look], or what stands in for it
// in a test.
func Command(o Options, look func(context.Context, Options) (Facts, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Tell what this machine can do for a server, and what not",
		Long: `Look at the machine as a server would, and tell what it can do and what not: each
with what was found and what to do about it. Nothing is changed. Run it as the
user as whom the server is to run.

ok: it is there. less: a server runs, and does less. no: a server does not run.
note: nothing depends on it.

The exit code is 0 when a server can run with its default driver, else 1.`,
		Example: `  dayfly doctor
  sudo dayfly doctor --data /var/lib/dayfly --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			facts, err := look(cmd.Context(), o)
			if err != nil {
				return err
			}
			report := Judge(facts)
			if err := write(cmd, report, asJSON); err != nil {
				return err
			}
			if !report.Fit() {
				return unfitError{errors.New("a server does not run on this machine")}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Data, "data", o.Data, "data directory of the server (DAYFLY_DATA)")
	f.StringVar(&o.Listen, "listen", o.Listen, "address of the server (DAYFLY_LISTEN)")
	f.StringVar(&o.DockerHost, "docker-host", o.DockerHost, "the Docker engine to look for; DOCKER_HOST, or the usual socket, unless set")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func write(cmd *cobra.Command, r Report, asJSON bool) error {
	text := r.String()
	if asJSON {
		b, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("print the report: %w", err)
		}
		text = string(b) + "\n"
	}
	if _, err := fmt.Fprint(cmd.OutOrStdout(), text); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	return nil
}
