package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dayfly-io/dayfly/client"
)

// tailLines is how many lines of its log the explanation of a failed run has.
const tailLines = 10

func (s *session) invokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "invoke NAME",
		Short: "Call a function and print its answer",
		Long: `Call a function and print its answer, as it comes. The body is -d, or standard
input unless that is a terminal. When the function fails, the exit code is 20
and standard error tells why, with the last lines of the run's log.`,
		Example: `  dayfly invoke hello -d '{"name":"world"}'
  dayfly invoke count -d @book.txt
  dayfly invoke shop/resize --method GET --path '/small?w=10' -i > small.png`,
		Args: names("NAME"),
	}
	call := &call{session: s}
	flags := cmd.Flags()
	flags.StringVarP(&call.data, "data", "d", "", "the `BODY`, or @FILE to read it from; @- is standard input")
	flags.StringArrayVar(&call.headers, "header", nil, "a header to send, `K:V`; may be repeated")
	flags.StringVar(&call.method, "method", "", "the HTTP `METHOD` (default POST)")
	flags.StringVar(&call.path, "path", "", "`PATH` below the function's URL, with or without ?QUERY")
	flags.BoolVarP(&call.show, "include", "i", false, "show status, headers and timing on standard error")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		call.app, call.name = s.function(args[0])
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		call.client = c
		opt, err := call.options(cmd)
		if err != nil {
			return err
		}
		body, err := call.body(cmd, &opt)
		if err != nil {
			return err
		}
		if body != nil {
			defer body.Close() //nolint:errcheck // it was only read
		}
		return call.run(cmd.Context(), body, opt)
	}
	return cmd
}

// call is one call of a function.
type call struct {
	*session
	client        *client.Client
	app, name     string
	data          string
	headers       []string
	method, path  string
	show          bool
	start, answer time.Time
}

func (c *call) options(cmd *cobra.Command) (client.InvokeOptions, error) {
	opt := client.InvokeOptions{Method: strings.ToUpper(c.method), Header: http.Header{}}
	for _, h := range c.headers {
		k, v, ok := strings.Cut(h, ":")
		if k = strings.TrimSpace(k); !ok || k == "" {
			return opt, usageError(cmd, "--header %q is not K:V", h)
		}
		opt.Header.Add(k, strings.TrimSpace(v))
	}
	path, query, _ := strings.Cut(c.path, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return opt, usageError(cmd, "--path %q has a query that cannot be read: %s", c.path, err)
	}
	opt.Path, opt.Query = path, values
	return opt, nil
}

// body opens what is sent. It gives nil for nothing.
func (c *call) body(cmd *cobra.Command, opt *client.InvokeOptions) (io.ReadCloser, error) {
	file, isFile := strings.CutPrefix(c.data, "@")
	switch {
	case isFile && file != "-":
		f, err := os.Open(file)
		if err != nil {
			return nil, notReadable(err)
		}
		info, err := f.Stat()
		if err != nil || info.IsDir() {
			f.Close() //nolint:errcheck // nothing was read from it
			return nil, notReadable(fmt.Errorf("%s is not a file", file))
		}
		if info.Mode().IsRegular() {
			opt.Length = info.Size()
		}
		return f, nil
	case cmd.Flags().Changed("data") && c.data == "":
		return nil, nil
	case cmd.Flags().Changed("data") && !isFile:
		if json.Valid([]byte(c.data)) && opt.Header.Get("Content-Type") == "" {
			opt.Header.Set("Content-Type", "application/json")
		}
		opt.Length = int64(len(c.data))
		return io.NopCloser(strings.NewReader(c.data)), nil
	case isFile || c.Stdin != nil && !isTerminal(c.Stdin):
		return io.NopCloser(c.Stdin), nil
	}
	return nil, nil
}

// run calls the function and prints what it answers.
func (c *call) run(ctx context.Context, body io.Reader, opt client.InvokeOptions) error {
	c.start = c.Now()
	answer, err := c.client.Invoke(ctx, c.app, c.name, body, opt)
	if err != nil {
		if refused, ok := errors.AsType[*client.Error](err); ok && refused.RunID != "" {
			return c.explain(ctx, refused.RunID, err)
		}
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // it was read to its end or is of no more use
	c.answer = c.Now()
	if c.show {
		c.showHeader(answer)
	}
	_, err = io.Copy(c.Stdout, answer.Body)
	if c.show {
		c.showTiming(answer)
	}
	switch {
	case errors.Is(err, client.ErrIncomplete):
		return c.explain(ctx, answer.RunID, err)
	case err != nil:
		return fmt.Errorf("copy the answer of %s/%s: %w", c.app, c.name, err)
	case answer.Status >= http.StatusInternalServerError:
		err = fmt.Errorf("the function answered %d %s", answer.Status, http.StatusText(answer.Status))
		return c.explain(ctx, answer.RunID, &failure{code: exitFunctionFailed, err: err})
	case answer.Status >= http.StatusBadRequest:
		c.chat("The function answered %d %s.", answer.Status, http.StatusText(answer.Status))
	}
	return nil
}

// explain tells why a run failed, and gives the error with which to exit.
func (c *call) explain(ctx context.Context, run string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	c.sayError(err)
	c.chat("The run is %s.", run)
	// The log is an extra: where it cannot be had, the failure is told all
	// the same.
	if lines, logErr := lastLines(ctx, c.client, run, tailLines); logErr == nil && len(lines) > 0 {
		c.chat("The last lines of its log:")
		for _, line := range lines {
			c.chat("  %s", line.Text)
		}
	}
	return &failure{code: exitCode(ctx, err), err: fmt.Errorf("%w: %w", errTold, err)}
}

func (c *call) showHeader(answer *client.Answer) {
	c.chat("%d %s", answer.Status, http.StatusText(answer.Status))
	var lines []string
	for k, values := range answer.Header {
		for _, v := range values {
			lines = append(lines, k+": "+v)
		}
	}
	slices.Sort(lines)
	for _, line := range lines {
		c.chat("%s", line)
	}
	c.chat("")
}

func (c *call) showTiming(answer *client.Answer) {
	t := answer.Timings
	start := "hot"
	if t.Cold {
		start = "cold start " + span(t.Start)
	} else if t.Thaw > 0 {
		start = "thawed in " + span(t.Thaw)
	}
	c.chat("")
	c.chat("%s: queue %s, %s, function %s; first byte after %s, all after %s",
		answer.RunID, span(t.Queue), start, span(t.Run), span(c.answer.Sub(c.start)), span(c.Now().Sub(c.start)))
}
