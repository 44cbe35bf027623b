package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

// period is a table of runs that ended in the same stretch of time. Their ids
// lie mostly, but not only, between those of the periods around: a long run
// ends in a later period than its neighbours.
type period struct {
	number int64
	first  int64 // lowest id in it
	last   int64 // highest id in it
	runs   int64
	opened time.Time
}

// table gives the name of the period's table.
func (p period) table() string { return fmt.Sprintf("runs_%04d", p.number) }

// history is what the writer knows of the runs in the database. It is read
// at the first write and again after a rollback.
type history struct {
	loaded  bool
	periods []period // oldest first, without those being dropped
	next    int64    // number of the next period
	live    map[core.RunID]struct{}
}

func (h *history) load(tx *sqlitefile.Tx) error {
	if h.loaded {
		return nil
	}
	rows, err := tx.Query(periodsQuery)
	if err != nil {
		return err
	}
	periods, err := scanPeriods(rows)
	if err != nil {
		return err
	}
	if err := tx.QueryRow("SELECT coalesce(max(number), 0) + 1 FROM run_periods", nil, &h.next); err != nil {
		return err
	}
	live := map[core.RunID]struct{}{}
	ids, err := tx.Query("SELECT id FROM live_runs")
	if err != nil {
		return err
	}
	defer ids.Close()
	for ids.Next() {
		var id core.RunID
		if err := ids.Scan(&id); err != nil {
			return err
		}
		live[id] = struct{}{}
	}
	h.periods, h.live, h.loaded = periods, live, true
	return ids.Err()
}

const periodsQuery = "SELECT number, first_id, last_id, runs, opened_at FROM run_periods WHERE dropping = 0 ORDER BY number"

func scanPeriods(rows *sql.Rows) ([]period, error) {
	defer rows.Close()
	var periods []period
	for rows.Next() {
		var p period
		var opened int64
		if err := rows.Scan(&p.number, &p.first, &p.last, &p.runs, &opened); err != nil {
			return nil, err
		}
		p.opened = instant(opened)
		periods = append(periods, p)
	}
	return periods, rows.Err()
}

// older gives the highest id in the periods before the current one.
func (h *history) older() (last int64) {
	for i := range len(h.periods) - 1 {
		last = max(last, h.periods[i].last)
	}
	return last
}

// current gives the period into which runs of the instant at are written,
// and begins a new one when the last is full or old.
func (s *Store) current(tx *sqlitefile.Tx, at time.Time) (*period, error) {
	h := &s.history
	if n := len(h.periods); n > 0 {
		p := &h.periods[n-1]
		if p.runs < int64(s.o.PeriodRuns) && at.Sub(p.opened) < periodSpan {
			return p, nil
		}
	}
	p := period{number: h.next, opened: at}
	for _, ddl := range []string{
		// Columns as in live_runs.
		`CREATE TABLE %[1]s (
			id INTEGER PRIMARY KEY, function INTEGER NOT NULL, state INTEGER NOT NULL, reason INTEGER NOT NULL,
			version INTEGER NOT NULL, status INTEGER NOT NULL, instance INTEGER NOT NULL,
			waited INTEGER, took INTEGER, detail BLOB NOT NULL)`,
		// SQLite puts the id at the end of each index by itself. The last two
		// cost nothing for a run that succeeded.
		`CREATE INDEX %[1]s_function ON %[1]s (function)`,
		`CREATE INDEX %[1]s_state ON %[1]s (state) WHERE state > 4`,
		`CREATE INDEX %[1]s_function_state ON %[1]s (function, state) WHERE state > 4`,
	} {
		if _, err := tx.Exec(fmt.Sprintf(ddl, p.table())); err != nil {
			return nil, fmt.Errorf("beginning period %d: %w", p.number, err)
		}
	}
	if _, err := tx.Exec("INSERT INTO run_periods (number, first_id, last_id, runs, opened_at) VALUES (?, 0, 0, 0, ?)",
		p.number, micros(p.opened)); err != nil {
		return nil, fmt.Errorf("beginning period %d: %w", p.number, err)
	}
	h.next++
	h.periods = append(h.periods, p)
	return &h.periods[len(h.periods)-1], nil
}

// note counts a run that was written into the period.
func (p *period) note(id int64) {
	if p.runs == 0 || id < p.first {
		p.first = id
	}
	p.last = max(p.last, id)
	p.runs++
}

func (p *period) save(tx *sqlitefile.Tx) error {
	_, err := tx.Exec("UPDATE run_periods SET first_id = ?, last_id = ?, runs = ? WHERE number = ?",
		p.first, p.last, p.runs, p.number)
	return err
}

// holding gives the periods whose bounds include the id, newest first.
func holding(periods []period, id int64) []period {
	var found []period
	for _, p := range slices.Backward(periods) {
		if p.first <= id && id <= p.last {
			found = append(found, p)
		}
	}
	return found
}

// TrimRuns drops the oldest period when all its runs are beyond the newest
// keep, or older than before. It takes several calls for one: the first makes
// its runs invisible, each of the next drops an index or the table, which
// holds other writes up for a tenth of a second at most.
func (s *Store) TrimRuns(ctx context.Context, keep int, before time.Time) (more bool, err error) {
	err = s.write(ctx, "forgetting old runs", func(tx *sqlitefile.Tx) error {
		more, err = s.trimRuns(tx, int64(max(keep, 0)), core.FirstIDAt(before))
		return err
	})
	return more && err == nil, err
}

func (s *Store) trimRuns(tx *sqlitefile.Tx, keep, before int64) (more bool, err error) {
	h := &s.history
	if err := h.load(tx); err != nil {
		return false, err
	}
	var dropping int64
	err = tx.QueryRow("SELECT number FROM run_periods WHERE dropping = 1 LIMIT 1", nil, &dropping)
	if err == nil {
		return true, s.dropSlice(tx, period{number: dropping})
	}
	if !errors.Is(err, sql.ErrNoRows) || len(h.periods) == 0 {
		return false, ignoreNoRows(err)
	}
	var newer int64
	for _, p := range h.periods[1:] {
		newer += p.runs
	}
	oldest := h.periods[0]
	if newer < keep && oldest.last >= before {
		return false, nil
	}
	if _, err := tx.Exec("UPDATE run_periods SET dropping = 1 WHERE number = ?", oldest.number); err != nil {
		return false, err
	}
	h.periods = slices.Clone(h.periods[1:])
	s.log.Info("old runs are forgotten", slog.Int64("period", oldest.number), slog.Int64("runs", oldest.runs))
	return true, nil
}

// dropSlice drops an index of the period, or the table when no index is left.
func (s *Store) dropSlice(tx *sqlitefile.Tx, p period) error {
	gone, err := tx.DropSlice(p.table())
	if err != nil || !gone {
		return err
	}
	_, err = tx.Exec("DELETE FROM run_periods WHERE number = ?", p.number)
	return err
}

func ignoreNoRows(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}
