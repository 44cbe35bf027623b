package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// A list of runs is a merge, newest first, over sources: a stretch of an
// index of one table. Each source knows a bound under which all it has not
// shown lies, so that an old table is not touched before the list comes to
// it. A source whose index does not answer the whole filter looks at its rows
// in slices of a known size, which is how the work of one call is bounded.

const (
	// maxSources bounds the sources of one table; a filter that would need
	// more looks through all runs instead.
	maxSources = 16
	// The first slice of a source that searches, and the largest; each is
	// twice the one before.
	firstSlice, lastSlice = 250, 4000
	searchTime            = 100 * time.Millisecond
)

// source is a stretch of an index of one table.
type source struct {
	table  string
	index  string // INDEXED BY or NOT INDEXED
	where  string // what the index answers, each with AND in front
	filter string // what it does not, likewise
	values []any  // of the filter

	below int64 // what has not been fetched has ids under it,
	floor int64 // and at or over this
	slice int
	runs  []core.Run // fetched, newest first
}

// key gives the highest id the source may still show, under its floor for
// none.
func (s *source) key() int64 {
	if len(s.runs) > 0 {
		return int64(s.runs[0].ID)
	}
	return s.below - 1
}

func (s *source) empty() bool { return len(s.runs) == 0 && s.below <= s.floor }

// search is the work of one call of Runs.
type search struct {
	*Store
	filter core.RunFilter
	want   int
	start  int64 // where it began
	budget int   // rows that may still be looked at
	until  time.Time
	list   []*source
}

// Runs lists runs that pass the filter, newest first.
func (s *Store) Runs(ctx context.Context, filter core.RunFilter, page core.Page) (result core.RunPage, err error) {
	after, err := page.AfterRun()
	if err != nil {
		return result, err
	}
	below, floor := int64(math.MaxInt64), int64(1)
	if after != 0 {
		below = int64(after)
	}
	if !filter.Until.IsZero() {
		// Ids hold whole milliseconds; what lies in the last one is compared
		// exactly afterwards.
		below = min(below, core.FirstIDAt(filter.Until.Add(time.Millisecond)))
	}
	if !filter.Since.IsZero() {
		floor = max(floor, core.FirstIDAt(filter.Since))
	}
	w := search{Store: s, filter: filter, want: page.Size(), start: below, budget: s.o.SearchRuns, until: time.Now().Add(searchTime)}
	err = s.file.Read(ctx, func(tx *sql.Tx) error {
		if err := w.plan(ctx, tx, below, floor); err != nil {
			return err
		}
		result, err = w.merge(ctx, tx)
		return err
	})
	return result, s.describe("listing runs", err)
}

// plan finds the sources of a search.
func (w *search) plan(ctx context.Context, tx *sql.Tx, below, floor int64) error {
	var live, final, ending []int64 // states wanted: going on; ended; ended otherwise than well
	for _, state := range w.filter.States {
		code, err := stateCode(state)
		switch {
		case err != nil:
			return err
		case !state.Final():
			live = append(live, code)
		case code > stateSucceeded:
			ending = append(ending, code)
			fallthrough
		default:
			final = append(final, code)
		}
	}
	all := len(w.filter.States) == 0
	if all || len(live) > 0 {
		s := &source{table: "live_runs", index: " NOT INDEXED", below: below, floor: floor, slice: firstSlice}
		s.filter = stateFilter(live)
		w.addNames(s)
		w.list = append(w.list, s)
	}
	if !all && len(final) == 0 {
		return nil
	}
	rows, err := tx.QueryContext(ctx, periodsQuery)
	if err != nil {
		return err
	}
	periods, err := scanPeriods(rows)
	if err != nil {
		return err
	}
	onlyEnding := len(final) > 0 && len(final) == len(ending)
	for _, p := range periods {
		if p.runs == 0 || p.last < floor || p.first >= below {
			continue
		}
		w.planPeriod(source{table: p.table(), below: min(below, p.last+1), floor: max(floor, p.first), slice: firstSlice},
			final, onlyEnding)
	}
	return nil
}

// planPeriod adds the sources of one period table. The partial indexes are
// used by name with their condition repeated: SQLite does not infer it.
func (w *search) planPeriod(base source, states []int64, onlyEnding bool) {
	numbers, few := []int64(nil), false
	if w.filter.App != "" {
		numbers, few = w.names.find(w.filter.App, w.filter.Function, maxSources)
	}
	switch {
	case few && onlyEnding && len(numbers)*len(states) <= maxSources:
		base.index = " INDEXED BY " + base.table + "_function_state"
		for _, number := range numbers {
			for _, state := range states {
				w.add(base, " AND function = %d AND state = %d AND state > 4", number, state)
			}
		}
	case few:
		base.index = " INDEXED BY " + base.table + "_function"
		base.filter = stateFilter(states)
		for _, number := range numbers {
			w.add(base, " AND function = %d", number)
		}
	case onlyEnding:
		base.index = " INDEXED BY " + base.table + "_state"
		w.addNames(&base)
		for _, state := range states {
			w.add(base, " AND state = %d AND state > 4", state)
		}
	default:
		base.index = " NOT INDEXED"
		base.filter = stateFilter(states)
		w.addNames(&base)
		w.add(base, "")
	}
}

// add adds a source; numbers stand in its conditions as they are, which
// spares SQLite a second look at how the query is best run.
func (w *search) add(s source, where string, numbers ...any) {
	s.where = fmt.Sprintf(where, numbers...)
	w.list = append(w.list, &s)
}

func stateFilter(states []int64) string {
	if len(states) == 0 {
		return ""
	}
	var list []string
	for _, s := range states {
		list = append(list, strconv.FormatInt(s, 10))
	}
	return " AND state IN (" + strings.Join(list, ", ") + ")"
}

// addNames lets only runs of the wanted app and function pass.
func (w *search) addNames(s *source) {
	for _, c := range []struct{ column, value string }{{"app", w.filter.App}, {"function", w.filter.Function}} {
		if c.value != "" {
			s.filter += " AND (SELECT n." + c.column + " FROM function_names n WHERE n.number = " + s.table + ".function) = ?"
			s.values = append(slices.Clone(s.values), c.value)
		}
	}
}

// merge shows what the sources have, newest first, until the page is full,
// and looks for one more to know whether there is a next page.
func (w *search) merge(ctx context.Context, tx *sql.Tx) (page core.RunPage, err error) {
	passed := int64(math.MaxInt64) // the last that was looked at
	for {
		w.list = slices.DeleteFunc(w.list, (*source).empty)
		if len(w.list) == 0 {
			return page, nil
		}
		s := slices.MaxFunc(w.list, func(a, b *source) int { return cmp.Compare(a.key(), b.key()) })
		if len(s.runs) > 0 {
			r := s.runs[0]
			s.runs, passed = s.runs[1:], int64(r.ID)
			if !w.filter.Match(r) {
				continue
			}
			if len(page.Runs) == w.want {
				page.Next = core.Cursor(page.Runs[w.want-1].ID.String())
				return page, nil
			}
			page.Runs = append(page.Runs, r)
			continue
		}
		// A search that has not come on from where it began may not stop, or
		// the next one would stop there too.
		if s.below < w.start && (w.budget <= 0 || time.Now().After(w.until)) {
			// The bound of one source may be the very run that another showed.
			w.stopAt(&page, min(s.below, passed))
			return page, nil
		}
		if err := w.fetch(ctx, tx, s); err != nil {
			return page, err
		}
	}
}

// stopAt ends a search that has looked at all ids from below on.
func (w *search) stopAt(page *core.RunPage, below int64) {
	if n := len(page.Runs); n == w.want {
		page.Next = core.Cursor(page.Runs[n-1].ID.String())
		return
	}
	page.Next = core.Cursor(core.RunID(below).String())
	// Others of the same millisecond may lie under it.
	page.SearchedTo = core.IDTime(below).Add(time.Millisecond)
}

// fetch reads on in a source: the next runs that pass, or one slice of rows.
func (w *search) fetch(ctx context.Context, tx *sql.Tx, s *source) error {
	limit := w.want + 1
	if len(w.list) > 1 {
		limit = min(limit, max(s.slice/8, (w.want+1)/len(w.list)+1))
	}
	bottom, slice := s.floor, limit
	if s.filter != "" {
		slice = s.slice
		var err error
		if bottom, err = w.bottom(ctx, tx, s, slice); err != nil {
			return err
		}
	}
	s.slice = min(2*s.slice, lastSlice)
	w.budget -= slice
	rows, err := tx.QueryContext(ctx, s.query(runColumns, bottom)+s.filter+fmt.Sprintf(" ORDER BY id DESC LIMIT %d", limit), s.values...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		r, err := w.scanRun(rows)
		if err != nil {
			return err
		}
		s.runs = append(s.runs, r)
	}
	s.below = bottom
	if n := len(s.runs); n == limit {
		s.below = int64(s.runs[n-1].ID)
	}
	return rows.Err()
}

// bottom gives the id of the last row of the source's next slice, its floor
// when fewer are left.
func (w *search) bottom(ctx context.Context, tx *sql.Tx, s *source, slice int) (int64, error) {
	id := s.floor
	query := s.query("id", s.floor) + fmt.Sprintf(" ORDER BY id DESC LIMIT 1 OFFSET %d", slice-1)
	err := tx.QueryRowContext(ctx, query).Scan(&id)
	return id, ignoreNoRows(err)
}

// query asks for what the source has left down to bottom, by its index.
func (s *source) query(columns string, bottom int64) string {
	return fmt.Sprintf("SELECT %s FROM %s%s WHERE id < %d AND id >= %d%s", columns, s.table, s.index, s.below, bottom, s.where)
}
