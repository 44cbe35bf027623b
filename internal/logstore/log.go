package logstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

// rowCost is what a row takes beside its packed lines, with its place in two
// indexes, in bytes, about.
const rowCost = 128

// packed is a chunk as it is written.
type packed struct {
	run, app, function, instance int64
	time, lastTime               int64 // microseconds since 1970
	lastSequence                 int64
	data                         []byte
}

func (c packed) cost() int64 { return int64(len(c.data)) + rowCost }

// AppendLogs writes chunks.
func (s *Store) AppendLogs(ctx context.Context, chunks []core.LogChunk) error {
	list := make([]packed, 0, len(chunks))
	for _, c := range chunks {
		if len(c.Lines) == 0 {
			continue
		}
		p := packed{
			run: int64(c.Run), app: int64(c.AppID), function: int64(c.FunctionID), instance: int64(c.Instance),
			time: c.Lines[0].Time.UnixMicro(), data: pack(c.Lines),
		}
		for _, l := range c.Lines {
			p.lastTime, p.lastSequence = max(p.lastTime, l.Time.UnixMicro()), max(p.lastSequence, l.Sequence)
		}
		list = append(list, p)
	}
	if len(list) == 0 {
		return nil
	}
	err := s.file.Write(ctx, func(tx *sqlitefile.Tx) error { return s.append(tx, list) })
	return s.describe("writing logs", err)
}

func (s *Store) append(tx *sqlitefile.Tx, list []packed) error {
	for len(list) > 0 {
		p, err := s.current(tx, list[0].lastTime)
		if err != nil {
			return err
		}
		// As many as there is room for; at least one.
		n, room := 0, s.size()-p.bytes
		for n == 0 || n < len(list) && room > 0 {
			room -= list[n].cost()
			n++
		}
		_, err = tx.Each("INSERT INTO "+p.table()+
			" (run, app_id, function_id, instance, time, last_sequence, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
			n, 7, func(i int, args []driver.NamedValue) {
				c := &list[i]
				for k, v := range [...]int64{c.run, c.app, c.function, c.instance, c.time, c.lastSequence} {
					args[k].Value = v
				}
				args[6].Value = c.data
			})
		if err != nil {
			return err
		}
		for _, c := range list[:n] {
			p.note(c)
		}
		if err := p.save(tx); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// errEnough ends a walk over chunks.
var errEnough = errors.New("enough lines")

// Logs gives up to limit lines of a run whose sequence is over after.
func (s *Store) Logs(ctx context.Context, run core.RunID, after int64, limit int) (lines []core.LogLine, err error) {
	if run <= 0 || limit <= 0 {
		return nil, nil
	}
	err = s.file.Read(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, periodsQuery)
		if err != nil {
			return err
		}
		list, err := scanPeriods(rows)
		if err != nil {
			return err
		}
		for _, p := range list {
			if p.firstRun > int64(run) || int64(run) > p.lastRun {
				continue
			}
			if lines, err = readChunks(ctx, tx, p.table(), run, after, limit, lines); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return lines, s.describe("reading the log of a run", err)
}

// readChunks appends the lines of one table, and ends with errEnough when
// there are limit lines.
func readChunks(ctx context.Context, tx *sql.Tx, table string, run core.RunID, after int64, limit int, lines []core.LogLine) ([]core.LogLine, error) {
	rows, err := tx.QueryContext(ctx, fmt.Sprintf(`SELECT instance, data FROM %[1]s INDEXED BY %[1]s_run
		WHERE run = %[2]d AND run > 0 AND last_sequence > %[3]d ORDER BY last_sequence, id`, table, int64(run), after))
	if err != nil {
		return lines, err
	}
	defer rows.Close()
	for rows.Next() {
		var instance core.InstanceID
		var data sql.RawBytes
		if err := rows.Scan(&instance, &data); err != nil {
			return lines, err
		}
		chunk, err := unpack(data, run, instance)
		if err != nil {
			return lines, fmt.Errorf("a chunk of the log of %s: %w", run, err)
		}
		for _, l := range chunk {
			if l.Sequence <= after {
				continue
			}
			if len(lines) == limit {
				return lines, errEnough
			}
			lines = append(lines, l)
		}
	}
	return lines, rows.Err()
}
