package sqlitefile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite" of database/sql
)

// Durability says when a commit is answered.
type Durability string

// The durabilities, after SQLite's "synchronous".
const (
	// Full answers when the commit is on disk.
	Full Durability = "FULL"
	// Normal answers when the operating system has the commit. It outlives
	// the process; a loss of power may take the last commits, never harm the
	// file.
	Normal Durability = "NORMAL"
)

// ErrClosed is the error of a write after Close.
var ErrClosed = errors.New("the database file is closed")

// Options tune a file. The zero value is good, but for Migrations.
type Options struct {
	// Migrations holds the schema, in goose's format, at its root.
	Migrations fs.FS
	// Durability is Full unless set.
	Durability Durability
	// CacheSize is the writer's page cache in bytes, 8 MiB unless set:
	// what is written is new, and what is read is at the end.
	CacheSize int64
	// Readers is the number of connections that read, twice the number of
	// processors and at least 4 unless set.
	Readers int
	// Ended is called by the writer's goroutine after each transaction, before
	// it does anything else, and tells whether it was committed. When not,
	// what its writes have noted beside the database no longer holds.
	Ended func(committed bool)
}

// The settings of every file. The checkpoint after 4000 pages (16 MiB) is the
// best compromise between throughput and the longest commit.
const (
	defaultCache   = 8 << 20
	checkpointEach = 4000
	walKeep        = 64 << 20
	busyTimeout    = 10 * time.Second
)

// File is an open database file.
type File struct {
	path    string
	writeDB *sql.DB
	readDB  *sql.DB
	ended   func(bool)
	tx      Tx

	mu     sync.Mutex
	queue  []*request
	closed bool
	wake   chan struct{} // has room for one
	done   chan struct{} // closed when the writer's goroutine has ended
}

// Open opens the file at path, makes it when it is not there, and brings its
// schema up to date. The directory must exist.
func Open(ctx context.Context, path string, o Options) (*File, error) {
	if o.Durability == "" {
		o.Durability = Full
	}
	if o.CacheSize == 0 {
		o.CacheSize = defaultCache
	}
	if o.Readers == 0 {
		o.Readers = max(4, 2*runtime.NumCPU())
	}
	f := &File{path: path, ended: o.Ended, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if err := f.open(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the database %s: %w", path, f.explain(err)), f.closeDBs())
	}
	go f.writer()
	return f, nil
}

func (f *File) open(ctx context.Context, o Options) (err error) {
	pragmas := []string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"journal_mode(WAL)",
		"synchronous(" + string(o.Durability) + ")",
		fmt.Sprintf("cache_size(%d)", -o.CacheSize>>10),
		fmt.Sprintf("wal_autocheckpoint(%d)", checkpointEach),
		fmt.Sprintf("journal_size_limit(%d)", walKeep),
		"secure_delete(0)",
		"foreign_keys(0)",
		"temp_store(MEMORY)",
	}
	if f.writeDB, err = sql.Open("sqlite", dsn(f.path, url.Values{"_pragma": pragmas, "_txlock": {"immediate"}})); err != nil {
		return err
	}
	f.writeDB.SetMaxOpenConns(1)
	if err := migrate(ctx, f.writeDB, o.Migrations); err != nil {
		return err
	}
	if f.tx.conn, err = f.writeDB.Conn(ctx); err != nil {
		return err
	}
	f.readDB, err = sql.Open("sqlite", dsn(f.path, url.Values{
		"mode":    {"ro"},
		"_pragma": {pragmas[0], "query_only(1)", "temp_store(MEMORY)"},
	}))
	if err != nil {
		return err
	}
	f.readDB.SetMaxOpenConns(o.Readers)
	f.readDB.SetMaxIdleConns(o.Readers)
	return f.readDB.PingContext(ctx)
}

// dsn gives the file's name as a URI, so that ? and # may stand in it.
func dsn(path string, query url.Values) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	u := url.URL{Path: path}
	return "file:" + u.EscapedPath() + "?" + query.Encode()
}

func migrate(ctx context.Context, db *sql.DB, migrations fs.FS) error {
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, migrations, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("reading the migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bringing the schema up to date: %w", err)
	}
	return nil
}

// Read runs do in a transaction that only reads: all it sees is of one
// instant.
func (f *File) Read(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := f.readDB.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("beginning to read: %w", f.explain(err))
	}
	err = do(tx)
	// There is nothing to commit; ending the snapshot is all.
	if end := tx.Rollback(); err == nil && end != nil && !errors.Is(end, sql.ErrTxDone) {
		err = end
	}
	return f.explain(err)
}

// Close lets the writes that wait be done, ends the writer and closes the
// file. Reads that go on end with an error.
func (f *File) Close() error {
	f.mu.Lock()
	again := f.closed
	f.closed = true
	f.mu.Unlock()
	f.signal()
	<-f.done
	if again {
		return nil
	}
	return f.closeDBs()
}

func (f *File) closeDBs() error {
	var errs []error
	if f.readDB != nil {
		errs = append(errs, f.readDB.Close())
	}
	if f.tx.conn != nil {
		f.tx.forget()
		errs = append(errs, f.tx.conn.Close())
	}
	// The last connection to close writes the log back into the file.
	if f.writeDB != nil {
		errs = append(errs, f.writeDB.Close())
	}
	return errors.Join(errs...)
}
