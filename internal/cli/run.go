package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/client"
)

func (s *session) runCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "run", Short: "List, show and cancel runs, and read their logs"}
	group(cmd)
	cmd.AddCommand(s.runListCommand(), s.runShowCommand(), s.runLogsCommand(), s.runCancelCommand())
	return cmd
}

// states are what --state may name, in the order in which a run can have them.
var states = []api.State{
	api.StateScheduled, api.StateQueued, api.StateRunning,
	api.StateSucceeded, api.StateFailed, api.StateTimedOut, api.StateCancelled, api.StateExpired,
}

func (s *session) runListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List runs, newest first",
		Long:  "List runs, newest first: those of the app that --app or DAYFLY_APP names, else of all.",
		Example: `  dayfly run list --function hello --state failed,timed_out --since 1h
  dayfly run list --all --json`,
		Args: names(),
	}
	var f client.RunFilter
	var named []string
	var all bool
	var limit int
	flags := cmd.Flags()
	flags.StringVar(&f.Function, "function", "", "only runs of the function `NAME`")
	flags.StringSliceVar(&named, "state", nil, "only runs in these `STATES`, such as failed,timed_out")
	flags.StringVar(&f.Since, "since", "", "only runs made since `TIME`: 1h ago, or 2026-01-02T15:04:05Z")
	flags.StringVar(&f.Until, "until", "", "only runs made before `TIME`")
	flags.IntVar(&limit, "limit", 0, "`NUMBER` of runs at most (default 50)")
	flags.BoolVar(&all, "all", false, "all of them, however many")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkRunFilter(cmd, &f, named, limit, all); err != nil {
			return err
		}
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		f.App = s.appOr("")
		runs := func(p client.Page) (api.List[api.Run], error) { return c.Runs(cmd.Context(), f, p) }
		var list api.List[api.Run]
		if all {
			list, err = collect(runs)
		} else {
			list, err = atMost(runs, limit)
		}
		if err != nil {
			return err
		}
		if err := s.printRuns(*asJSON, list); err != nil {
			return err
		}
		switch {
		case *asJSON || list.NextCursor == "":
		case !list.SearchedTo.IsZero():
			s.chat("The search stopped at %s; --all goes on, --since bounds it.", list.SearchedTo.Format(time.RFC3339))
		default:
			s.chat("There are more: use --limit or --all.")
		}
		return nil
	}
	return cmd
}

// maxPage is how many runs the server gives at once.
const maxPage = 1000

// atMost gives the first items of a list; limit 0 means the server's page.
func atMost[T any](list func(client.Page) (api.List[T], error), limit int) (api.List[T], error) {
	out, err := list(client.Page{Limit: min(limit, maxPage)})
	for err == nil && out.NextCursor != "" && len(out.Items) < limit {
		var next api.List[T]
		next, err = list(client.Page{Cursor: out.NextCursor, Limit: min(limit-len(out.Items), maxPage)})
		next.Items = append(out.Items, next.Items...)
		out = next
	}
	return out, err
}

func checkRunFilter(cmd *cobra.Command, f *client.RunFilter, named []string, limit int, all bool) error {
	for _, name := range named {
		state := api.State(name)
		if !slices.Contains(states, state) {
			return usageError(cmd, "%q is not a state of a run: they are %s", name, strings.Trim(fmt.Sprint(states), "[]"))
		}
		f.States = append(f.States, state)
	}
	for flag, value := range map[string]string{"since": f.Since, "until": f.Until} {
		if value == "" {
			continue
		}
		_, notInstant := time.Parse(time.RFC3339, value)
		if d, err := time.ParseDuration(value); notInstant != nil && (err != nil || d < 0) {
			return usageError(cmd, "--%s %q is no time: write how long ago, such as 1h, or an instant, such as 2026-01-02T15:04:05Z", flag, value)
		}
	}
	switch {
	case cmd.Flags().Changed("limit") && limit < 1:
		return usageError(cmd, "--limit must be 1 or more")
	case cmd.Flags().Changed("limit") && all:
		return usageError(cmd, "--limit and --all exclude each other")
	}
	return nil
}

func (s *session) printRuns(asJSON bool, list api.List[api.Run]) error {
	header := []string{"RUN", "FUNCTION", "STATE", "REASON", "START", "QUEUE", "DURATION", "CREATED"}
	return printList(s, asJSON, list, header, func(r api.Run) []string {
		return []string{
			r.ID, r.App + "/" + r.Function, string(r.State), r.Reason, startWord(r), ms(r.QueueMS), ms(r.DurationMS),
			ago(s.Now(), r.CreatedAt),
		}
	})
}

// startWord says whether an instance was started for the run, and how long
// that took.
func startWord(r api.Run) string {
	switch {
	case r.Cold && r.Start != nil:
		return "cold " + span(r.Start.Total())
	case r.Cold:
		return "cold"
	case r.StartedAt.IsZero():
		return ""
	case r.Start != nil:
		return "thawed " + span(r.Start.Total())
	}
	return "hot"
}

func (s *session) runShowCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show RUN", Short: "Show a run", Args: names("RUN")}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		r, err := c.Run(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return s.printJSON(r)
		}
		rows := runRows(r, s.Now())
		if r.DurationMS >= 1000 {
			u, err := c.RunUsage(cmd.Context(), r.ID)
			if err != nil {
				return err
			}
			rows = append(rows, usageRows(u.Samples)...)
		}
		return s.printRows(rows)
	}
	return cmd
}

func runRows(r api.Run, now time.Time) [][]string {
	rows := [][]string{
		{"run", r.ID},
		{"function", fmt.Sprintf("%s/%s, version %d", r.App, r.Function, r.Version)},
		{"state", string(r.State)},
	}
	add := func(key, value string) {
		if value != "" {
			rows = append(rows, []string{key, value})
		}
	}
	add("reason", r.Reason)
	add("message", r.Message)
	if r.Waiting != nil {
		add("waiting", waitText(*r.Waiting))
	}
	add("trigger", strings.TrimSpace(r.Trigger+" "+r.Method+" "+r.Path))
	if r.Principal != "" {
		add("asked by", r.Principal)
	}
	if r.Attempt > 1 {
		add("attempt", strconv.Itoa(r.Attempt))
	}
	if r.Status != 0 {
		add("status", strconv.Itoa(r.Status))
	}
	if r.ExitCode != 0 {
		add("exit code", strconv.Itoa(r.ExitCode))
	}
	add("created", r.CreatedAt.Local().Format(time.RFC3339)+" ("+ago(now, r.CreatedAt)+")")
	add("queue", ms(r.QueueMS))
	add("start", startDetail(r))
	add("duration", ms(r.DurationMS))
	compute, memory := usageTexts(r.Usage)
	add("compute", compute)
	add("memory", memory)
	add("body", size(r.BytesIn)+" in, "+size(r.BytesOut)+" out, "+size(r.LogBytes)+" of log")
	add("instance", r.Instance)
	if r.Progress != nil {
		add("progress", strings.TrimSpace(fmt.Sprintf("%d%% %s", r.Progress.Percent, r.Progress.Text)))
	}
	return rows
}

// usageTexts tell what a run has used; what is not known is "", as of each run
// of an instance that is called without a pause.
func usageTexts(u api.Usage) (compute, memory string) {
	shared := ""
	if u.Shared {
		shared = ", shared with other runs"
	}
	if u.CPUMS > 0 {
		compute = ms(u.CPUMS) + " of processor time"
		if u.ThrottledMS > 0 {
			compute += ", held up for " + ms(u.ThrottledMS) + " by its limit"
		}
		compute += shared
	}
	var parts []string
	if u.MemoryBytes > 0 {
		parts = append(parts, size(u.MemoryBytes)+" now")
	}
	if u.PeakMemoryBytes > 0 {
		most := size(u.PeakMemoryBytes) + " at most"
		if u.PeakOfInstance {
			most += " since the instance was started"
		}
		parts = append(parts, most)
	}
	switch {
	case u.OOMKills == 1:
		parts = append(parts, "1 process killed at the limit")
	case u.OOMKills > 1:
		parts = append(parts, strconv.Itoa(u.OOMKills)+" processes killed at the limit")
	}
	if len(parts) > 0 {
		memory = strings.Join(parts, ", ") + shared
	}
	return compute, memory
}

// usageRows draws what a run has used over time; none without two samples.
func usageRows(samples []api.UsageSample) [][]string {
	if len(samples) < 2 {
		return nil
	}
	var memory, processors []float64
	var last api.UsageSample
	for _, s := range samples {
		memory = append(memory, float64(s.MemoryBytes))
		processors = append(processors, float64(s.CPUMS-last.CPUMS)/max(float64(s.AtMS-last.AtMS), 1))
		last = s
	}
	every := samples[1].AtMS.Duration() - samples[0].AtMS.Duration()
	return [][]string{
		{"over time", "one mark each " + every.Round(time.Second).String()},
		{"  compute", bars(processors) + fmt.Sprintf("  up to %.2f processors", slices.Max(processors))},
		{"  memory", bars(memory) + "  up to " + size(int64(slices.Max(memory)))},
	}
}

// bars draws values as a line of bars, the highest of them in full.
func bars(values []float64) string {
	marks := []rune("▁▂▃▄▅▆▇█")
	most := slices.Max(values)
	var b strings.Builder
	for _, v := range values {
		i := 0
		if most > 0 {
			i = int(v / most * float64(len(marks)-1))
		}
		b.WriteRune(marks[min(max(i, 0), len(marks)-1)])
	}
	return b.String()
}

// waitText says what a run waits for, and how far that is.
func waitText(w api.Waiting) string {
	p := w.Pull
	if p == nil || p.BytesTotal == 0 {
		return w.Message
	}
	return fmt.Sprintf("%s (%s of %s, %s/s, %d of %d layers)", w.Message, size(p.BytesDone), size(p.BytesTotal), size(p.Rate), p.LayersDone, p.Layers)
}

func startDetail(r api.Run) string {
	if !r.Cold || r.Start == nil {
		return startWord(r)
	}
	return fmt.Sprintf("%s (image %s, sandbox %s, boot %s)", startWord(r), ms(r.Start.ImageMS), ms(r.Start.SandboxMS), ms(r.Start.BootMS))
}

func (s *session) runCancelCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "cancel RUN", Short: "End a run that has not ended", Args: names("RUN")}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		r, err := c.CancelRun(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return s.printJSON(r)
		}
		s.chat("The run %s is %s.", r.ID, r.State)
		return nil
	}
	return cmd
}
