package logstore

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync/atomic"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options tune a store. The zero value is good.
type Options struct {
	// Log is told of what the store does by itself; nil for silence.
	Log *slog.Logger
	// PeriodBytes is how much a period holds, 64 MiB unless set. A period is
	// never more than an eighth of what TrimLogs was last told to keep.
	PeriodBytes int64
}

const defaultPeriodBytes = 64 << 20

// Store is an open database of logs.
type Store struct {
	file        *sqlitefile.File
	path        string
	log         *slog.Logger
	periodBytes int64
	keep        atomic.Int64 // what TrimLogs was last told to keep, 0 before
	// periods is what the writer knows of the tables; nil after a rollback.
	// Only writes use it.
	periods *periods
}

// Open opens the database at path and makes it when it is not there; the
// directory must exist.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	s := &Store{path: path, log: o.Log, periodBytes: o.PeriodBytes}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.periodBytes == 0 {
		s.periodBytes = defaultPeriodBytes
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("finding the migrations: %w", err)
	}
	s.file, err = sqlitefile.Open(ctx, path, sqlitefile.Options{
		Migrations: files,
		Durability: sqlitefile.Normal,
		CacheSize:  4 << 20,
		Ended: func(committed bool) {
			if !committed {
				s.periods = nil
			}
		},
	})
	if err != nil {
		return nil, s.describe("opening the logs", err)
	}
	return s, nil
}

// Close lets the writes that wait be done and closes the file.
func (s *Store) Close() error { return s.file.Close() }

func (s *Store) describe(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, sqlitefile.ErrFull) {
		return core.Unavailable(core.ReasonDiskFull, err,
			"the disk of %s is full, so no log can be written down: make room there, and work resumes by itself", filepath.Dir(s.path))
	}
	return fmt.Errorf("%s: %w", doing, err)
}
