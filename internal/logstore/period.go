package logstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

// periodSpan is after how long a new period is begun although the one before
// is not full, so that age can be forgotten by the day.
const periodSpan = 24 * time.Hour

// period is a table of chunks that were appended in the same stretch of time.
type period struct {
	number            int64
	firstRun, lastRun int64
	lastTime          int64 // microseconds since 1970
	bytes             int64
	opened            int64 // microseconds since 1970
}

func (p period) table() string { return fmt.Sprintf("log_chunks_%04d", p.number) }

// note counts a chunk that was written into the period.
func (p *period) note(c packed) {
	if c.run > 0 {
		if p.firstRun == 0 || c.run < p.firstRun {
			p.firstRun = c.run
		}
		p.lastRun = max(p.lastRun, c.run)
	}
	p.lastTime = max(p.lastTime, c.lastTime)
	p.bytes += c.cost()
}

func (p *period) save(tx *sqlitefile.Tx) error {
	_, err := tx.Exec("UPDATE log_periods SET first_run = ?, last_run = ?, last_time = ?, bytes = ? WHERE number = ?",
		p.firstRun, p.lastRun, p.lastTime, p.bytes, p.number)
	return err
}

// periods is what the writer knows of the tables.
type periods struct {
	list []period // oldest first, without those being dropped
	next int64    // number of the next one
}

const periodsQuery = "SELECT number, first_run, last_run, last_time, bytes, opened_at FROM log_periods WHERE dropping = 0 ORDER BY number"

func scanPeriods(rows *sql.Rows) ([]period, error) {
	defer rows.Close()
	var list []period
	for rows.Next() {
		var p period
		if err := rows.Scan(&p.number, &p.firstRun, &p.lastRun, &p.lastTime, &p.bytes, &p.opened); err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, rows.Err()
}

func (s *Store) load(tx *sqlitefile.Tx) (*periods, error) {
	if s.periods != nil {
		return s.periods, nil
	}
	rows, err := tx.Query(periodsQuery)
	if err != nil {
		return nil, err
	}
	var p periods
	if p.list, err = scanPeriods(rows); err != nil {
		return nil, err
	}
	if err := tx.QueryRow("SELECT coalesce(max(number), 0) + 1 FROM log_periods", nil, &p.next); err != nil {
		return nil, err
	}
	s.periods = &p
	return s.periods, nil
}

// size gives how many bytes a period may hold.
func (s *Store) size() int64 {
	if keep := s.keep.Load(); keep > 0 {
		return min(s.periodBytes, max(keep/8, 1))
	}
	return s.periodBytes
}

// current gives the period into which chunks of the instant at, in
// microseconds since 1970, are written, and begins a new one when the last is
// full or old.
func (s *Store) current(tx *sqlitefile.Tx, at int64) (*period, error) {
	h, err := s.load(tx)
	if err != nil {
		return nil, err
	}
	if n := len(h.list); n > 0 {
		p := &h.list[n-1]
		if p.bytes < s.size() && at-p.opened < periodSpan.Microseconds() {
			return p, nil
		}
	}
	p := period{number: h.next, opened: at}
	for _, ddl := range []string{
		`CREATE TABLE %[1]s (
			id INTEGER PRIMARY KEY,
			run INTEGER NOT NULL,           -- 0 for lines of no run
			app_id INTEGER NOT NULL,
			function_id INTEGER NOT NULL,
			instance INTEGER NOT NULL,
			time INTEGER NOT NULL,          -- of the first line
			last_sequence INTEGER NOT NULL, -- of the last line
			data BLOB NOT NULL)`,
		`CREATE INDEX %[1]s_run ON %[1]s (run, last_sequence) WHERE run > 0`,
		`CREATE INDEX %[1]s_function ON %[1]s (function_id, time)`,
	} {
		if _, err := tx.Exec(fmt.Sprintf(ddl, p.table())); err != nil {
			return nil, fmt.Errorf("beginning period %d: %w", p.number, err)
		}
	}
	if _, err := tx.Exec("INSERT INTO log_periods (number, first_run, last_run, last_time, bytes, opened_at) VALUES (?, 0, 0, 0, 0, ?)",
		p.number, p.opened); err != nil {
		return nil, fmt.Errorf("beginning period %d: %w", p.number, err)
	}
	h.next++
	h.list = append(h.list, p)
	return &h.list[len(h.list)-1], nil
}

// TrimLogs drops the oldest period when all its lines are older than before,
// or when all periods together take more than keep bytes. It takes several
// calls for one: the first makes its lines invisible, each of the next drops
// an index or the table.
func (s *Store) TrimLogs(ctx context.Context, keep int64, before time.Time) (more bool, err error) {
	keep = max(keep, 0)
	s.keep.Store(keep)
	err = s.file.Write(ctx, func(tx *sqlitefile.Tx) error {
		more, err = s.trim(tx, keep, before)
		return err
	})
	return more && err == nil, s.describe("forgetting old logs", err)
}

func (s *Store) trim(tx *sqlitefile.Tx, keep int64, before time.Time) (more bool, err error) {
	h, err := s.load(tx)
	if err != nil {
		return false, err
	}
	var dropping int64
	err = tx.QueryRow("SELECT number FROM log_periods WHERE dropping = 1 LIMIT 1", nil, &dropping)
	if err == nil {
		gone, err := tx.DropSlice(period{number: dropping}.table())
		if err == nil && gone {
			_, err = tx.Exec("DELETE FROM log_periods WHERE number = ?", dropping)
		}
		return true, err
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	var total int64
	for _, p := range h.list {
		total += p.bytes
	}
	if len(h.list) == 0 || total <= keep && h.list[0].lastTime >= before.UnixMicro() {
		return false, nil
	}
	oldest := h.list[0]
	if _, err := tx.Exec("UPDATE log_periods SET dropping = 1 WHERE number = ?", oldest.number); err != nil {
		return false, err
	}
	h.list = slices.Clone(h.list[1:])
	s.log.Info("old logs are forgotten", slog.Int64("period", oldest.number), slog.Int64("bytes", oldest.bytes))
	return true, nil
}
