package storetest

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Period is how many runs a store under [Runs] may at most put into one piece
// that it forgets as a whole, and Search how many rows one of its searches
// must at most look at: small, so that a test crosses both.
const (
	Period = 10
	Search = 250
)

// Runs checks a store of runs; open opens an empty one that keeps to [Period]
// and [Search].
func Runs(t *testing.T, open func(*testing.T) RunStore) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *runs)
	}{
		{"every field of a run comes back", runComesBack},
		{"a plain run comes back", plainRunComesBack},
		{"words of any kind and number come back", oddWordsComeBack},
		{"a run goes on and ends under one id", runGoesOnAndEnds},
		{"a run that has ended stays so, whatever order its rows come in", endedStays},
		{"a run that ended again is as it was last written", endedAgain},
		{"a batch with a bad run leaves nothing", badBatchLeavesNothing},
		{"a run that is not there is not found", runIsMissing},
		{"lists are newest first, filtered, and whole page by page", runsAreListed},
		{"a long run that ended late stands where it was made", lateRunIsInPlace},
		{"a bad cursor is invalid", badRunCursor},
		{"an unknown state is invalid", badState},
		{"a search that finds little stops, says how far it came, and goes on", searchStops},
		{"counters count each run once, by its last state", countersCount},
		{"orphans are ended with a reason and a message", orphansAreEnded},
		{"trimming keeps the newest and lets the others go", trimKeepsNewest},
		{"trimming by age lets the old go", trimByAge},
		{"names outlive functions of the same name", namesOutlive},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, &runs{RunStore: open(t), now: start})
		})
	}
}

// runs is a store with a clock that rises a second with each run.
type runs struct {
	RunStore
	now  time.Time
	last int64
}

// plain makes a run that succeeded.
func (s *runs) plain(app, function string) core.Run {
	s.now = s.now.Add(time.Second)
	s.last = core.NextID(s.last, s.now, 5)
	id := int64(0)
	for _, c := range app + "/" + function {
		id = id*31 + int64(c)
	}
	return core.Run{
		ID: core.RunID(s.last), AppID: core.AppID(len(app)), FunctionID: core.FunctionID(id), App: app, Function: function,
		Version: 3, State: core.StateSucceeded, Trigger: core.TriggerHTTP, Principal: "local", Attempt: 1, Method: "POST", Path: "/",
		Status: 200, Instance: 77, CreatedAt: s.now, StartedAt: s.now.Add(123 * time.Microsecond), FinishedAt: s.now.Add(4567 * time.Microsecond),
		BytesIn: 10, BytesOut: 2000, LogBytes: 30, Usage: core.Usage{CPU: 1234567, PeakMemory: 20 * core.MiB}, Progress: -1,
	}
}

func (s *runs) in(state core.State, app, function string) core.Run {
	r := s.plain(app, function)
	r.State = state
	if !state.Final() {
		r.FinishedAt = time.Time{}
	} else if state != core.StateSucceeded {
		r.Reason = core.ReasonExitCode
	}
	return r
}

func (s *runs) save(t *testing.T, list ...core.Run) {
	t.Helper()
	ok(t, s.SaveRuns(t.Context(), list))
}

func (s *runs) same(t *testing.T, want core.Run) {
	t.Helper()
	equal(t, "the run", must(s.Run(t.Context(), want.ID))(t), want)
}

// all lists every run that passes, in pages of the size.
func (s *runs) all(t *testing.T, filter core.RunFilter, size int) (list []core.Run) {
	t.Helper()
	page := core.Page{Limit: size}
	for range 10_000 {
		p := must(s.Runs(t.Context(), filter, page))(t)
		if len(p.Runs) > size {
			t.Fatalf("a page of %d has %d runs", size, len(p.Runs))
		}
		if p.Next != "" && len(p.Runs) < size && p.SearchedTo.IsZero() {
			t.Fatalf("a page has %d runs of %d and does not say why", len(p.Runs), size)
		}
		list = append(list, p.Runs...)
		if page.Cursor = p.Next; p.Next == "" {
			return list
		}
	}
	t.Fatal("the list does not end")
	return nil
}

func runComesBack(t *testing.T, s *runs) {
	for _, state := range core.States {
		r := filled[core.Run]()
		r.Waiting = nil // of the moment, and not kept
		p := s.plain("shop", "resize")
		r.ID, r.State, r.AppID, r.FunctionID, r.App, r.Function = p.ID, state, p.AppID, p.FunctionID, p.App, p.Function
		s.save(t, r)
		s.same(t, r)
	}
}

func plainRunComesBack(t *testing.T, s *runs) {
	r := s.plain("shop", "resize")
	s.save(t, r)
	s.same(t, r)
	r = s.plain("shop", "resize")
	r.Start.Thaw = 158 * time.Microsecond
	s.save(t, r)
	s.same(t, r)
	r = s.plain("shop", "resize")
	r.State, r.Reason, r.Status = core.StateFailed, core.ReasonStartFailed, 0
	r.StartedAt, r.Instance, r.Path, r.Progress, r.ExitCode = time.Time{}, 0, "", 0, -1
	s.save(t, r)
	s.same(t, r)
}

func oddWordsComeBack(t *testing.T, s *runs) {
	long := strings.Repeat("wörd", 100)
	var list []core.Run
	for i := range 50 {
		r := s.plain("shop", "resize")
		r.Method, r.Trigger, r.Principal = fmt.Sprint("M", i), fmt.Sprint("trigger ", i), long[i:]
		r.Reason, r.Path, r.Message = core.Reason(fmt.Sprint("reason_", i)), "/a/"+long, "mess\x00age\n"
		list = append(list, r)
	}
	s.save(t, list...)
	for _, r := range list {
		s.same(t, r)
	}
}

func runGoesOnAndEnds(t *testing.T, s *runs) {
	r := s.in(core.StateRunning, "shop", "resize")
	s.save(t, r)
	s.same(t, r)
	r.Progress, r.ProgressText = 42, "nearly half"
	s.save(t, r)
	s.same(t, r)
	equal(t, "the running runs", len(s.all(t, core.RunFilter{States: []core.State{core.StateRunning}}, 10)), 1)
	r.State, r.FinishedAt = core.StateSucceeded, s.now.Add(time.Minute)
	s.save(t, r)
	s.same(t, r)
	equal(t, "the running runs", len(s.all(t, core.RunFilter{States: []core.State{core.StateRunning}}, 10)), 0)
	equal(t, "all runs", len(s.all(t, core.RunFilter{}, 10)), 1)
}

func endedStays(t *testing.T, s *runs) {
	var ended []core.Run
	for range 3 * Period {
		r := s.plain("shop", "resize")
		ended = append(ended, r)
		s.save(t, r)
		r.State, r.FinishedAt = core.StateRunning, time.Time{}
		s.save(t, r)
	}
	r := s.plain("shop", "resize")
	late := r
	late.State, late.FinishedAt = core.StateRunning, time.Time{}
	s.save(t, r, late)
	for _, r := range append(ended, r) {
		s.same(t, r)
	}
	equal(t, "all runs", len(s.all(t, core.RunFilter{}, 100)), len(ended)+1)
	equal(t, "the orphans", must(s.EndOrphans(t.Context(), s.now))(t), 0)
}

func endedAgain(t *testing.T, s *runs) {
	var list []core.Run
	for range 3 * Period {
		list = append(list, s.plain("shop", "resize"))
	}
	s.save(t, list...)
	for _, i := range []int{0, Period, 3*Period - 1} {
		list[i].State, list[i].Reason, list[i].Message = core.StateFailed, core.ReasonOOMKilled, "again"
		s.save(t, s.plain("shop", "crop"), list[i], list[i], s.plain("shop", "crop"))
		s.same(t, list[i])
	}
	equal(t, "all runs", len(s.all(t, core.RunFilter{}, 7)), len(list)+6)
	equal(t, "the failed runs", len(s.all(t, core.RunFilter{States: []core.State{core.StateFailed}}, 7)), 3)
	equal(t, "the counter of failed runs", s.counted(t)["shop/resize failed"], 3)
	equal(t, "the counter of good runs", s.counted(t)["shop/resize succeeded"], int64(len(list)-3))
}

func badBatchLeavesNothing(t *testing.T, s *runs) {
	good, bad := s.plain("shop", "resize"), s.plain("shop", "resize")
	bad.State = "confused"
	isKind(t, s.SaveRuns(t.Context(), []core.Run{good, bad}), core.KindInvalid)
	bad = s.plain("shop", "resize")
	bad.ID = 0
	isKind(t, s.SaveRuns(t.Context(), []core.Run{good, bad}), core.KindInvalid)
	equal(t, "all runs", len(s.all(t, core.RunFilter{}, 7)), 0)
	s.save(t)
	s.save(t, good)
	s.same(t, good)
}

func runIsMissing(t *testing.T, s *runs) {
	for _, id := range []core.RunID{-1, 0, 1, s.plain("a", "b").ID} {
		_, err := s.Run(t.Context(), id)
		isKind(t, err, core.KindNotFound)
	}
}

// runsAreListed compares lists under random filters with the same filter over
// a plain slice.
func runsAreListed(t *testing.T, s *runs) {
	var saved []core.Run
	for range 20 {
		var batch []core.Run
		for range rand.IntN(2 * Period) {
			state := core.StateSucceeded
			if rand.IntN(3) == 0 {
				state = core.States[rand.IntN(len(core.States))]
			}
			batch = append(batch, s.in(state, []string{"shop", "bank"}[rand.IntN(2)], []string{"f", "g", "h"}[rand.IntN(3)]))
		}
		saved = append(saved, batch...)
		rand.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
		s.save(t, batch...)
	}
	slices.SortFunc(saved, func(a, b core.Run) int { return cmp.Compare(b.ID, a.ID) })
	for range 120 {
		filter := core.RunFilter{
			App:      []string{"", "", "shop", "nowhere"}[rand.IntN(4)],
			Function: []string{"", "", "g", "nothing"}[rand.IntN(4)],
		}
		for range rand.IntN(4) {
			filter.States = append(filter.States, core.States[rand.IntN(len(core.States))])
		}
		slices.Sort(filter.States)
		filter.States = slices.Compact(filter.States)
		at := func() time.Time { return start.Add(rand.N(s.now.Sub(start)).Truncate(time.Millisecond / 2)) }
		if rand.IntN(3) == 0 {
			filter.Since = at()
		}
		if rand.IntN(3) == 0 {
			filter.Until = at()
		}
		var want []core.RunID
		for _, r := range saved {
			if filter.Match(r) {
				want = append(want, r.ID)
			}
		}
		size := 1 + rand.IntN(60)
		var got []core.RunID
		for _, r := range s.all(t, filter, size) {
			got = append(got, r.ID)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s in pages of %d: got %d runs, want %d\n got %v\nwant %v", show(filter), size, len(got), len(want), got, want)
		}
	}
}

func lateRunIsInPlace(t *testing.T, s *runs) {
	early := s.plain("shop", "long")
	for range 5 {
		for range Period {
			s.save(t, s.plain("shop", "resize"))
		}
	}
	s.save(t, early)
	s.same(t, early)
	list := s.all(t, core.RunFilter{}, 4)
	equal(t, "the oldest", list[len(list)-1], early)
	equal(t, "the number of runs", len(list), 5*Period+1)
	equal(t, "the long ones", s.all(t, core.RunFilter{App: "shop", Function: "long"}, 4), []core.Run{early})
}

func badRunCursor(t *testing.T, s *runs) {
	s.save(t, s.plain("shop", "resize"))
	for _, cursor := range []string{"x", "%%%", core.Cursor("a"), core.Cursor("a", "b"), "run_0000000000001", core.Cursor("run_0000000000000")} {
		_, err := s.Runs(t.Context(), core.RunFilter{}, core.Page{Cursor: cursor})
		isKind(t, err, core.KindInvalid)
	}
}

func badState(t *testing.T, s *runs) {
	_, err := s.Runs(t.Context(), core.RunFilter{States: []core.State{"confused"}}, core.Page{})
	isKind(t, err, core.KindInvalid)
}

// searchStops looks for a run that is older than a search may look back, by a
// filter that no index answers.
func searchStops(t *testing.T, s *runs) {
	filter := core.RunFilter{Function: "rare", States: []core.State{core.StateSucceeded, core.StateFailed}}
	rare := s.plain("shop", "rare")
	s.save(t, rare)
	var batch []core.Run
	for range 3 * Search {
		batch = append(batch, s.plain("shop", "common"))
	}
	s.save(t, batch...)
	first := must(s.Runs(t.Context(), filter, core.Page{}))(t)
	if len(first.Runs) != 0 || first.Next == "" || first.SearchedTo.IsZero() {
		t.Fatalf("the first page is %s", show(first))
	}
	if !first.SearchedTo.After(rare.CreatedAt) || first.SearchedTo.After(s.now.Add(time.Millisecond)) {
		t.Fatalf("it searched to %s; the runs are of %s to %s", first.SearchedTo, rare.CreatedAt, s.now)
	}
	calls := 1
	for page := first; page.Next != ""; calls++ {
		page = must(s.Runs(t.Context(), filter, core.Page{Cursor: page.Next}))(t)
		if page.Next == "" {
			equal(t, "what was found", page.Runs, []core.Run{rare})
		}
	}
	if calls < 3 {
		t.Fatalf("%d calls looked at %d rows", calls, 3*Search)
	}
}

func (s *runs) counted(t *testing.T) map[string]int64 {
	t.Helper()
	counted := map[string]int64{}
	for _, c := range must(s.Counters(t.Context()))(t) {
		if c.Count <= 0 || !c.State.Final() {
			t.Fatalf("a counter is %s", show(c))
		}
		counted[c.App+"/"+c.Function+" "+string(c.State)] = c.Count
	}
	return counted
}

func countersCount(t *testing.T, s *runs) {
	want := map[string]int64{}
	for range 30 {
		var batch []core.Run
		for range rand.IntN(Period) {
			r := s.in(core.States[rand.IntN(len(core.States))], "shop", []string{"f", "g"}[rand.IntN(2)])
			batch = append(batch, r)
			if r.State.Final() {
				want[r.App+"/"+r.Function+" "+string(r.State)]++
			}
		}
		s.save(t, batch...)
	}
	equal(t, "the counters", s.counted(t), want)
	for must(s.TrimRuns(t.Context(), 0, time.Time{}))(t) {
	}
	equal(t, "the counters after forgetting", s.counted(t), want)
}

func orphansAreEnded(t *testing.T, s *runs) {
	var orphans []core.Run
	for range 600 {
		r := s.in(core.StateRunning, "shop", "resize")
		orphans = append(orphans, r)
	}
	queued := s.in(core.StateQueued, "shop", "resize")
	queued.StartedAt = time.Time{}
	good := s.plain("shop", "resize")
	s.save(t, append(orphans, queued, good)...)
	at := s.now.Add(time.Minute)
	equal(t, "the number ended", must(s.EndOrphans(t.Context(), at))(t), 601)
	equal(t, "the number ended again", must(s.EndOrphans(t.Context(), at))(t), 0)
	s.same(t, good)
	for _, r := range []core.Run{orphans[0], orphans[599], queued} {
		got := must(s.Run(t.Context(), r.ID))(t)
		if got.Message == "" {
			t.Fatal("an orphan has no message")
		}
		r.State, r.Reason, r.Message, r.FinishedAt = core.StateFailed, core.ReasonServerRestarted, got.Message, at
		equal(t, "an orphan", got, r)
	}
	equal(t, "the counter", s.counted(t)["shop/resize failed"], 601)
}

func trimKeepsNewest(t *testing.T, s *runs) {
	var saved []core.Run
	for range 10 * Period {
		r := s.plain("shop", "resize")
		saved = append(saved, r)
		s.save(t, r)
	}
	live := s.in(core.StateRunning, "shop", "resize")
	s.save(t, live)
	const keep = 2*Period + 3
	for steps := 0; must(s.TrimRuns(t.Context(), keep, time.Time{}))(t); steps++ {
		if steps > 1000 {
			t.Fatal("trimming does not end")
		}
	}
	left := s.all(t, core.RunFilter{}, 100)
	if n := len(left) - 1; n < keep || n > keep+Period {
		t.Fatalf("%d runs are left of %d to keep", n, keep)
	}
	s.same(t, live)
	for i, r := range left[1:] {
		equal(t, "a run that is kept", r, saved[len(saved)-1-i])
	}
	_, err := s.Run(t.Context(), saved[0].ID)
	isKind(t, err, core.KindNotFound)
	s.save(t, s.plain("shop", "resize"))
	equal(t, "the runs after one more", len(s.all(t, core.RunFilter{}, 100)), len(left)+1)
}

func trimByAge(t *testing.T, s *runs) {
	var saved []core.Run
	for range 5 * Period {
		r := s.plain("shop", "resize")
		saved = append(saved, r)
		s.save(t, r)
	}
	before := saved[3*Period].CreatedAt
	for must(s.TrimRuns(t.Context(), 1_000_000, before))(t) {
	}
	left := s.all(t, core.RunFilter{}, 100)
	if n := len(left); n < 2*Period || n > 3*Period {
		t.Fatalf("%d runs are left of which %d are young enough", n, 2*Period)
	}
	for must(s.TrimRuns(t.Context(), 1_000_000, s.now.Add(time.Hour)))(t) {
	}
	equal(t, "the runs left when all are old", len(s.all(t, core.RunFilter{}, 100)), 0)
	r := s.plain("shop", "resize")
	s.save(t, r)
	s.same(t, r)
}

func namesOutlive(t *testing.T, s *runs) {
	one, two := s.plain("shop", "resize"), s.plain("shop", "resize")
	two.FunctionID++
	s.save(t, one, two)
	s.same(t, one)
	s.same(t, two)
	equal(t, "the runs of the name", s.all(t, core.RunFilter{App: "shop", Function: "resize"}, 1), []core.Run{two, one})
	counters := must(s.Counters(t.Context()))(t)
	equal(t, "the number of counters", len(counters), 2)
}
