package sqlite

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options tune a store. The zero value is good.
type Options struct {
	// Log is told of what the store does by itself; nil for silence.
	Log *slog.Logger
	// PeriodRuns is how many finished runs a period holds, 500,000 unless
	// set: few periods to look through, and each quickly dropped.
	PeriodRuns int
	// SearchRuns is how many runs one call of Runs looks at, at most; 20,000
	// unless set.
	SearchRuns int
}

const (
	defaultPeriodRuns = 500_000
	defaultSearchRuns = 20_000
	// periodSpan is after how long a new period is begun although the one
	// before is not full, so that age can be forgotten by the day.
	periodSpan = 24 * time.Hour
)

// Store is an open database.
type Store struct {
	file  *sqlitefile.File
	path  string
	log   *slog.Logger
	o     Options
	names *names
	words *words
	// history is what the writer knows of the period tables and the runs
	// that go on. Only writes use it.
	history history
}

// Open opens the database at path and makes it when it is not there; the
// directory must exist.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.PeriodRuns == 0 {
		o.PeriodRuns = defaultPeriodRuns
	}
	if o.SearchRuns == 0 {
		o.SearchRuns = defaultSearchRuns
	}
	s := &Store{path: path, log: o.Log, o: o, names: newNames(), words: newWords()}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("finding the migrations: %w", err)
	}
	s.file, err = sqlitefile.Open(ctx, path, sqlitefile.Options{Migrations: files, Ended: s.ended})
	if err != nil {
		return nil, s.explain(err)
	}
	if err := s.write(ctx, "reading the names of runs", s.loadNames); err != nil {
		return nil, errors.Join(err, s.file.Close())
	}
	return s, nil
}

// Close lets the writes that wait be done and closes the file.
func (s *Store) Close() error { return s.file.Close() }

// ended makes what writes have noted beside the database hold, or throws it
// away.
func (s *Store) ended(committed bool) {
	if committed {
		s.names.keep()
		s.words.keep()
		return
	}
	s.names.undo()
	s.words.undo()
	s.history = history{}
}

// write runs do in a write transaction and puts in words what became of it.
func (s *Store) write(ctx context.Context, doing string, do func(*sqlitefile.Tx) error) error {
	err := s.file.Write(ctx, do)
	return s.describe(doing, err)
}

func (s *Store) describe(doing string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*core.Error](err); ok {
		return err
	}
	if err := s.explain(err); core.IsKind(err, core.KindUnavailable) {
		return err
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// explain turns a full disk into an error for people.
func (s *Store) explain(err error) error {
	if errors.Is(err, sqlitefile.ErrFull) {
		return core.Unavailable(core.ReasonDiskFull, err,
			"the disk of %s is full, so nothing can be written down: make room there, and work resumes by itself", filepath.Dir(s.path))
	}
	return err
}

// micros gives an instant as it is stored.
func micros(t time.Time) int64 { return t.UnixMicro() }

// instant reads what micros gave.
func instant(us int64) time.Time { return time.UnixMicro(us).UTC() }
