package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/client"
)

func (s *session) runLogsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "logs RUN",
		Short: "Print the log of a run",
		Long: `Print the log of a run: what the function printed, a line each. With -f it goes
on until the run has ended. With --json a line is a JSON object.`,
		Args: names("RUN"),
	}
	follow := cmd.Flags().BoolP("follow", "f", false, "go on until the run has ended")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		if !*follow {
			return eachLine(cmd.Context(), c, args[0], func(line api.LogLine) error { return s.printLine(line, *asJSON) })
		}
		stream := c.FollowLogs(args[0], 0)
		for line, err := range stream.Lines(cmd.Context()) {
			if err == nil {
				err = s.printLine(line, *asJSON)
			}
			if err != nil {
				return err
			}
		}
		if r := stream.Run(); r.ID != "" && r.State != api.StateSucceeded {
			s.chat("The run %s %s: %s", r.ID, r.State, r.Message)
		}
		return nil
	}
	return cmd
}

// logPage is how many lines are asked for at once.
const logPage = 1000

// eachLine gives the lines of a run's log as it is, in order.
func eachLine(ctx context.Context, c *client.Client, run string, give func(api.LogLine) error) error {
	for after := int64(0); ; {
		lines, err := c.Logs(ctx, run, after, logPage)
		if err != nil || len(lines) == 0 {
			return err
		}
		for _, line := range lines {
			if err := give(line); err != nil {
				return err
			}
			after = max(after, line.Sequence)
		}
	}
}

func (s *session) printLine(line api.LogLine, asJSON bool) error {
	text := line.Text
	if asJSON {
		b, err := json.Marshal(line)
		if err != nil {
			return fmt.Errorf("print a line: %w", err)
		}
		text = string(b)
	} else if isTerminal(s.Stdout) {
		text = printable(text)
	}
	if _, err := io.WriteString(s.Stdout, text+"\n"); err != nil {
		return fmt.Errorf("print a line: %w", err)
	}
	return nil
}

// lastLines gives the last n lines of a run's log.
func lastLines(ctx context.Context, c *client.Client, run string, n int) ([]api.LogLine, error) {
	var last []api.LogLine
	err := eachLine(ctx, c, run, func(line api.LogLine) error {
		if len(last) == n {
			last = last[1:]
		}
		last = append(last, line)
		return nil
	})
	return last, err
}
