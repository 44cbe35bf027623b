package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

// The states as they are stored. The partial indexes of a period are on those
// over succeeded.
const (
	stateScheduled = iota + 1
	stateQueued
	stateRunning
	stateSucceeded
	stateFailed
	stateTimedOut
	stateCancelled
	stateExpired
)

func stateCode(s core.State) (int64, error) {
	switch s {
	case core.StateSucceeded:
		return stateSucceeded, nil
	case core.StateScheduled:
		return stateScheduled, nil
	case core.StateQueued:
		return stateQueued, nil
	case core.StateRunning:
		return stateRunning, nil
	case core.StateFailed:
		return stateFailed, nil
	case core.StateTimedOut:
		return stateTimedOut, nil
	case core.StateCancelled:
		return stateCancelled, nil
	case core.StateExpired:
		return stateExpired, nil
	}
	return 0, core.Invalid("the state %q of a run is not known", s)
}

func stateOf(code int64) core.State {
	if code < 1 || code > int64(len(core.States)) {
		return core.StateFailed
	}
	return core.States[code-1]
}

const (
	runColumns = "id, function, state, reason, version, status, instance, waited, took, detail"
	runValues  = " (" + runColumns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	runWidth   = 10
)

// SaveRuns writes runs as they are now. Those that go on go to live_runs,
// those that have ended to the current period, by a plain insert of ten
// values: it is the most frequent write of all.
func (s *Store) SaveRuns(ctx context.Context, runs []core.Run) error {
	if len(runs) == 0 {
		return nil
	}
	return s.write(ctx, "saving runs", func(tx *sqlitefile.Tx) error { return s.saveRuns(tx, runs) })
}

// saver is the work on one batch of runs.
type saver struct {
	*Store
	tx     *sqlitefile.Tx
	runs   []core.Run
	codes  []codes
	states []int64
	delta  map[counterKey]int64
	buffer []byte
}

func (s *Store) saveRuns(tx *sqlitefile.Tx, runs []core.Run) error {
	if err := s.history.load(tx); err != nil {
		return err
	}
	w := saver{Store: s, tx: tx, runs: runs, delta: map[counterKey]int64{}}
	if err := w.encode(); err != nil {
		return err
	}
	var ended, replaced, live []int
	newest, older := int64(0), s.history.older()
	for i := range runs {
		newest = max(newest, int64(runs[i].ID))
		if !runs[i].State.Final() {
			live = append(live, i)
			continue
		}
		// Only a run as old as an earlier period can stand in one; the
		// current one's own key tells of the others.
		table := ""
		if int64(runs[i].ID) <= older {
			var err error
			if table, err = w.find(runs[i].ID); err != nil {
				return err
			}
		}
		if table != "" {
			replaced = append(replaced, i)
		} else {
			ended = append(ended, i)
		}
	}
	if err := w.insert(ended, core.IDTime(newest)); err != nil {
		return err
	}
	for _, i := range replaced {
		if err := w.replace(i); err != nil {
			return err
		}
	}
	// What has ended in this batch is found in its period now, so that the
	// order within the batch does not matter.
	for _, i := range live {
		if err := w.saveLive(i); err != nil {
			return err
		}
	}
	return s.addCounters(tx, w.delta)
}

// encode finds the numbers of all names and words first: noting a new one is
// a statement of its own, which cannot stand in the middle of the inserts.
func (w *saver) encode() (err error) {
	w.codes, w.states = make([]codes, len(w.runs)), make([]int64, len(w.runs))
	for i := range w.runs {
		r := &w.runs[i]
		if w.states[i], err = stateCode(r.State); err != nil {
			return err
		}
		if r.ID <= 0 {
			return core.Invalid("a run with the id %d cannot be saved: ids are over 0", int64(r.ID))
		}
	}
	for i := range w.runs {
		r, c := &w.runs[i], &w.codes[i]
		if c.function, err = w.nameNumber(w.tx, r); err != nil {
			return err
		}
		if c.reason, err = w.wordNumber(w.tx, string(r.Reason)); err != nil {
			return err
		}
		if c.trigger, err = w.wordNumber(w.tx, r.Trigger); err != nil {
			return err
		}
		if c.principal, err = w.wordNumber(w.tx, r.Principal); err != nil {
			return err
		}
		// A caller chooses the method; one that HTTP does not have may not
		// fill the table of words.
		if slices.Contains(methods, r.Method) {
			if c.method, err = w.wordNumber(w.tx, r.Method); err != nil {
				return err
			}
		}
	}
	return nil
}

var methods = []string{"GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS"}

// values gives the columns of a run, in the order of runColumns. The detail
// stands in the saver's buffer and holds until the next call.
func (w *saver) values(i int, args []driver.NamedValue) {
	r, c := &w.runs[i], w.codes[i]
	w.buffer = appendDetail(w.buffer[:0], r, c)
	var waited, took any
	from := r.CreatedAt.UnixMicro()
	if !r.StartedAt.IsZero() {
		waited = r.StartedAt.UnixMicro() - from
		from = r.StartedAt.UnixMicro()
	}
	if !r.FinishedAt.IsZero() {
		took = r.FinishedAt.UnixMicro() - from
	}
	args[0].Value = int64(r.ID)
	args[1].Value = c.function
	args[2].Value = w.states[i]
	args[3].Value = c.reason
	args[4].Value = int64(r.Version)
	args[5].Value = int64(r.Status)
	args[6].Value = int64(r.Instance)
	args[7].Value = waited
	args[8].Value = took
	args[9].Value = w.buffer
}

// insert writes runs that have ended, and takes them out of live_runs.
func (w *saver) insert(which []int, at time.Time) error {
	for rest := which; len(rest) > 0; {
		p, err := w.current(w.tx, at)
		if err != nil {
			return err
		}
		n := min(len(rest), max(w.o.PeriodRuns-int(p.runs), 1))
		done, failure := w.tx.Each("INSERT INTO "+p.table()+runValues, n, runWidth,
			func(i int, args []driver.NamedValue) { w.values(rest[i], args) })
		for _, i := range rest[:done] {
			p.note(int64(w.runs[i].ID))
			w.delta[counterKey{w.codes[i].function, w.states[i]}]++
		}
		if err := errors.Join(p.save(w.tx), w.forgetLive(rest[:done])); err != nil {
			return err
		}
		rest = rest[done:]
		if failure == nil {
			continue
		}
		if !sqlitefile.IsDuplicate(failure) {
			return fmt.Errorf("writing run %s: %w", w.runs[rest[0]].ID, failure)
		}
		if err := w.replace(rest[0]); err != nil {
			return err
		}
		rest = rest[1:]
	}
	return nil
}

// replace writes a run that has ended over what was known of it as ended.
func (w *saver) replace(i int) error {
	id := w.runs[i].ID
	table, err := w.find(id)
	if err != nil {
		return err
	}
	var old counterKey
	if err := w.tx.QueryRow("SELECT function, state FROM "+table+" WHERE id = ?", []any{int64(id)}, &old.function, &old.state); err != nil {
		return fmt.Errorf("finding run %s: %w", id, err)
	}
	if _, err := w.tx.Each("REPLACE INTO "+table+runValues, 1, runWidth,
		func(_ int, args []driver.NamedValue) { w.values(i, args) }); err != nil {
		return fmt.Errorf("writing run %s again: %w", id, err)
	}
	w.delta[old]--
	w.delta[counterKey{w.codes[i].function, w.states[i]}]++
	return nil
}

// find gives the period table that has the run, "" for none.
func (w *saver) find(id core.RunID) (string, error) {
	for _, p := range holding(w.history.periods, int64(id)) {
		var one int
		err := w.tx.QueryRow("SELECT 1 FROM "+p.table()+" WHERE id = ?", []any{int64(id)}, &one)
		if err == nil {
			return p.table(), nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return "", fmt.Errorf("finding run %s: %w", id, err)
		}
	}
	return "", nil
}

// saveLive writes a run that goes on, unless it has ended.
func (w *saver) saveLive(i int) error {
	id := w.runs[i].ID
	if table, err := w.find(id); table != "" || err != nil {
		return err
	}
	if _, err := w.tx.Each("REPLACE INTO live_runs"+runValues, 1, runWidth,
		func(_ int, args []driver.NamedValue) { w.values(i, args) }); err != nil {
		return fmt.Errorf("writing run %s: %w", id, err)
	}
	w.history.live[id] = struct{}{}
	return nil
}

func (w *saver) forgetLive(which []int) error {
	for _, i := range which {
		id := w.runs[i].ID
		if _, ok := w.history.live[id]; !ok {
			continue
		}
		if _, err := w.tx.Exec("DELETE FROM live_runs WHERE id = ?", int64(id)); err != nil {
			return fmt.Errorf("ending run %s: %w", id, err)
		}
		delete(w.history.live, id)
	}
	return nil
}

// scanRun reads a row of runColumns.
func (s *Store) scanRun(row interface{ Scan(dest ...any) error }) (core.Run, error) {
	var r core.Run
	var function, state, reason int64
	var waited, took sql.NullInt64
	var detail sql.RawBytes
	if err := row.Scan(&r.ID, &function, &state, &reason, &r.Version, &r.Status, &r.Instance, &waited, &took, &detail); err != nil {
		return r, err
	}
	n := s.names.get(function)
	r.FunctionID, r.AppID, r.App, r.Function = n.functionID, n.appID, n.app, n.function
	r.State, r.Reason = stateOf(state), core.Reason(s.words.get(reason))
	if err := s.readDetail(detail, &r); err != nil {
		return r, err
	}
	from := r.CreatedAt
	if waited.Valid {
		r.StartedAt = from.Add(time.Duration(waited.Int64) * time.Microsecond)
		from = r.StartedAt
	}
	if took.Valid {
		r.FinishedAt = from.Add(time.Duration(took.Int64) * time.Microsecond)
	}
	return r, nil
}

// Run gives one run.
func (s *Store) Run(ctx context.Context, id core.RunID) (r core.Run, err error) {
	found := false
	err = s.file.Read(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, periodsQuery)
		if err != nil {
			return err
		}
		periods, err := scanPeriods(rows)
		if err != nil {
			return err
		}
		tables := []string{"live_runs"}
		for _, p := range holding(periods, int64(id)) {
			tables = append(tables, p.table())
		}
		for _, table := range tables {
			if found, err = s.runFrom(ctx, tx, table, id, &r); found || err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && !found {
		err = core.NotFound("there is no run %s: it never was, or it is older than what is kept", id)
	}
	return r, s.describe("reading a run", err)
}

func (s *Store) runFrom(ctx context.Context, tx *sql.Tx, table string, id core.RunID, r *core.Run) (bool, error) {
	rows, err := tx.QueryContext(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE id = %d", runColumns, table, int64(id)))
	if err != nil {
		return false, err
	}
	defer rows.Close()
	if !rows.Next() {
		return false, rows.Err()
	}
	*r, err = s.scanRun(rows)
	return true, err
}

// orphansEach is how many runs EndOrphans ends in one transaction.
const orphansEach = 500

// EndOrphans ends every run that goes on, as failed because the server
// restarted.
func (s *Store) EndOrphans(ctx context.Context, at time.Time) (int, error) {
	total := 0
	for {
		n := 0
		err := s.write(ctx, "ending the runs of a former server", func(tx *sqlitefile.Tx) error {
			orphans, err := s.orphans(tx)
			n = len(orphans)
			if err != nil || n == 0 {
				return err
			}
			for i := range orphans {
				orphans[i] = orphans[i].Orphaned(at)
			}
			return s.saveRuns(tx, orphans)
		})
		if err != nil || n == 0 {
			return total, err
		}
		total += n
	}
}

func (s *Store) orphans(tx *sqlitefile.Tx) ([]core.Run, error) {
	rows, err := tx.Query("SELECT "+runColumns+" FROM live_runs ORDER BY id LIMIT ?", orphansEach)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var runs []core.Run
	for rows.Next() {
		r, err := s.scanRun(rows)
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	return runs, rows.Err()
}
