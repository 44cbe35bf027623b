package httpapi

import (
	"context"
	"time"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
)

// RunName is the parameter that names a run.
type RunName struct {
	Run string `path:"run" doc:"id of the run" example:"run_0002m1w5x1g00"`
}

type runQuery struct {
	App      string   `query:"app" doc:"of this app only"`
	Function string   `query:"function" doc:"of functions of this name only"`
	State    []string `query:"state,explode" nullable:"false" enum:"scheduled,queued,running,succeeded,failed,timed_out,cancelled,expired" doc:"in this state only; may be given several times"`
	Since    string   `query:"since" doc:"made at or after: an instant (RFC 3339), or a duration such as 1h, meaning that long ago"`
	Until    string   `query:"until" doc:"made before: as since"`
	Paging
}

func (q runQuery) filter(now time.Time) (core.RunFilter, error) {
	f := core.RunFilter{App: q.App, Function: q.Function}
	for _, text := range q.State {
		s, err := core.ParseState(text)
		if err != nil {
			return f, err
		}
		f.States = append(f.States, s)
	}
	var err error
	if f.Since, err = parseInstant("since", q.Since, now); err != nil {
		return f, err
	}
	f.Until, err = parseInstant("until", q.Until, now)
	return f, err
}

// parseInstant reads an instant, or a duration before now.
func parseInstant(name, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return time.Time{}, core.Invalid("%s is %q: write an instant such as 2026-01-31T12:00:00Z, or a duration such as 1h", name, text)
	}
	return now.Add(-d), nil
}

func (h *Handler) listRuns(ctx context.Context, p core.Principal, in *runQuery) (*answer[api.List[api.Run]], error) {
	now := time.Now()
	filter, err := in.filter(now)
	if err != nil {
		return nil, err
	}
	page, err := h.cfg.Runs.Runs(ctx, p, filter, in.page())
	if err != nil {
		return nil, err
	}
	out := list(page.Runs, page.Next, func(r core.Run) api.Run { return wireRun(r, now) })
	out.Body.SearchedTo = utc(page.SearchedTo)
	return out, nil
}

func (h *Handler) getRun(ctx context.Context, p core.Principal, in *RunName) (*answer[api.Run], error) {
	return oneRun(ctx, p, in, h.cfg.Runs.Run)
}

func (h *Handler) cancelRun(ctx context.Context, p core.Principal, in *RunName) (*answer[api.Run], error) {
	return oneRun(ctx, p, in, h.cfg.Runs.Cancel)
}

// getRunUsage gives what a run has used, also over time.
func (h *Handler) getRunUsage(ctx context.Context, p core.Principal, in *RunName) (*answer[api.RunUsage], error) {
	id, err := core.ParseRunID(in.Run)
	if err != nil {
		return nil, err
	}
	run, err := h.cfg.Runs.Run(ctx, p, id)
	if err != nil {
		return nil, err
	}
	out := api.RunUsage{Usage: wireUsage(run), Samples: []api.UsageSample{}}
	for _, s := range run.Samples {
		out.Samples = append(out.Samples, api.UsageSample{
			AtMS: api.ToMilliseconds(s.At), CPUMS: api.ToMilliseconds(s.CPU), MemoryBytes: int64(s.Memory),
		})
	}
	return reply(out), nil
}

func wireUsage(r core.Run) api.Usage {
	u := r.Usage
	return api.Usage{
		CPUMS: api.ToMilliseconds(u.CPU), ThrottledMS: api.ToMilliseconds(u.Throttled), MemoryBytes: int64(u.Memory),
		PeakMemoryBytes: int64(u.PeakMemory), PeakOfInstance: r.PeakOfInstance, OOMKills: u.OOMKills, Shared: r.UsageShared,
	}
}

func oneRun(ctx context.Context, p core.Principal, in *RunName, get func(context.Context, core.Principal, core.RunID) (core.Run, error)) (*answer[api.Run], error) {
	id, err := core.ParseRunID(in.Run)
	if err != nil {
		return nil, err
	}
	run, err := get(ctx, p, id)
	if err != nil {
		return nil, err
	}
	return reply(wireRun(run, time.Now())), nil
}

func wireRun(r core.Run, now time.Time) api.Run {
	w := api.Run{
		ID: r.ID.String(), App: r.App, Function: r.Function, Version: r.Version,
		State: api.State(r.State), Reason: string(r.Reason), Message: r.Message,
		Trigger: r.Trigger, Principal: r.Principal, Attempt: r.Attempt, Method: r.Method, Path: r.Path,
		Status: r.Status, ExitCode: r.ExitCode, Cold: r.Cold,
		CreatedAt: r.CreatedAt.UTC(), StartedAt: utc(r.StartedAt), FinishedAt: utc(r.FinishedAt),
		QueueMS: api.ToMilliseconds(r.Queue()), DurationMS: api.ToMilliseconds(r.Duration(now)),
		BytesIn: int64(r.BytesIn), BytesOut: int64(r.BytesOut), LogBytes: int64(r.LogBytes),
		Usage: wireUsage(r),
	}
	if r.Instance != 0 {
		w.Instance = r.Instance.String()
	}
	if r.Cold || r.Start.Thaw > 0 {
		s := wireStart(r.Start)
		w.Start = &s
	}
	if r.Waiting != nil {
		w.Waiting = &api.Waiting{For: string(r.Waiting.For), Message: r.Waiting.Message, Pull: wirePull(r.Waiting.Pull)}
	}
	if r.Progress > 0 || r.ProgressText != "" {
		w.Progress = &api.Progress{Percent: max(r.Progress, 0), Text: r.ProgressText}
	}
	return w
}

// utc keeps the instant that is none what it is.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}
