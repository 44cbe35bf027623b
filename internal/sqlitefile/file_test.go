package sqlitefile_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

var schema = fstest.MapFS{"00001_numbers.sql": {Data: []byte(`-- +goose Up
CREATE TABLE numbers (n INTEGER PRIMARY KEY, text TEXT NOT NULL DEFAULT '');
CREATE INDEX numbers_text ON numbers (text);
`)}}

func open(t *testing.T, o sqlitefile.Options) *sqlitefile.File {
	t.Helper()
	o.Migrations = schema
	f, err := sqlitefile.Open(t.Context(), filepath.Join(t.TempDir(), "x.db"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func insert(n int) func(*sqlitefile.Tx) error {
	return func(tx *sqlitefile.Tx) error {
		_, err := tx.Exec("INSERT INTO numbers (n) VALUES (?)", n)
		return err
	}
}

func numbers(t *testing.T, f *sqlitefile.File) (list []int) {
	t.Helper()
	err := f.Read(t.Context(), func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(t.Context(), "SELECT n FROM numbers ORDER BY n")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var n int
			if err := rows.Scan(&n); err != nil {
				return err
			}
			list = append(list, n)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// together hands writes to the writer while it is busy, so that they share
// the next transaction, and gives what became of each.
func together(t *testing.T, f *sqlitefile.File, writes ...func(*sqlitefile.Tx) error) []error {
	t.Helper()
	busy, release := make(chan struct{}), make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		err := f.Write(t.Context(), func(*sqlitefile.Tx) error {
			close(busy)
			<-release
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-busy
	errs := make([]error, len(writes))
	for i, do := range writes {
		wait.Go(func() { errs[i] = f.Write(t.Context(), do) })
		sqlitefile.WaitQueued(f, i+1)
	}
	close(release)
	wait.Wait()
	return errs
}

func TestWritesThatGatherShareATransaction(t *testing.T) {
	t.Parallel()
	transactions := 0
	f := open(t, sqlitefile.Options{Ended: func(bool) { transactions++ }})
	var writes []func(*sqlitefile.Tx) error
	for n := range 100 {
		writes = append(writes, insert(n))
	}
	if err := errors.Join(together(t, f, writes...)...); err != nil {
		t.Fatal(err)
	}
	if transactions != 2 {
		t.Fatalf("there were %d transactions, not one for the first write and one for the rest", transactions)
	}
	if got := numbers(t, f); len(got) != 100 {
		t.Fatalf("%d rows", len(got))
	}
}

func TestATroubledWriteIsNotTheOthersTrouble(t *testing.T) {
	t.Parallel()
	refusal, failure := errors.New("refused before writing"), errors.New("failed after writing")
	f := open(t, sqlitefile.Options{})
	errs := together(t, f,
		insert(1),
		func(*sqlitefile.Tx) error { return refusal },
		insert(2),
		func(tx *sqlitefile.Tx) error { return errors.Join(insert(3)(tx), failure) },
		insert(2),
		insert(4),
	)
	want := []error{nil, refusal, nil, failure, nil, nil}
	for i := range want {
		if i != 4 && !errors.Is(errs[i], want[i]) {
			t.Errorf("write %d: %v, not %v", i, errs[i], want[i])
		}
	}
	if !sqlitefile.IsDuplicate(errs[4]) {
		t.Errorf("the second 2: %v", errs[4])
	}
	if got := fmt.Sprint(numbers(t, f)); got != "[1 2 4]" {
		t.Fatalf("there are %s", got)
	}
}

func TestEachTellsWhereItFailedAndGoesOn(t *testing.T) {
	t.Parallel()
	f := open(t, sqlitefile.Options{})
	err := f.Write(t.Context(), func(tx *sqlitefile.Tx) error {
		list := []int64{1, 2, 1, 3}
		for from := 0; from < len(list); {
			n, err := tx.Each("INSERT INTO numbers (n, text) VALUES (?, ?)", len(list)-from, 2, func(i int, args []driver.NamedValue) {
				args[0].Value, args[1].Value = list[from+i], "x"
			})
			if err != nil && (!sqlitefile.IsDuplicate(err) || from+n != 2) {
				return fmt.Errorf("at %d: %w", from+n, err)
			}
			from += n + 1
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(numbers(t, f)); got != "[1 2 3]" {
		t.Fatalf("there are %s", got)
	}
}

func TestAWriteGivenUpInTimeIsNotDone(t *testing.T) {
	t.Parallel()
	f := open(t, sqlitefile.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	err := f.Write(t.Context(), func(*sqlitefile.Tx) error {
		given := make(chan error)
		go func() { given <- f.Write(ctx, insert(1)) }()
		sqlitefile.WaitQueued(f, 1)
		cancel()
		return <-given
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the write given up: %v", err)
	}
	if err := f.Write(t.Context(), insert(2)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(numbers(t, f)); got != "[2]" {
		t.Fatalf("there are %s", got)
	}
}

func TestCloseDoesWhatWaitsAndRefusesTheRest(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	f, err := sqlitefile.Open(t.Context(), path, sqlitefile.Options{Migrations: schema})
	if err != nil {
		t.Fatal(err)
	}
	var closing, waiting error
	var wait sync.WaitGroup
	err = f.Write(t.Context(), func(*sqlitefile.Tx) error {
		wait.Go(func() { waiting = f.Write(t.Context(), insert(1)) })
		sqlitefile.WaitQueued(f, 1)
		wait.Go(func() { closing = f.Close() })
		return nil
	})
	wait.Wait()
	if err := errors.Join(err, waiting, closing, f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := f.Write(t.Context(), insert(2)); !errors.Is(err, sqlitefile.ErrClosed) {
		t.Fatalf("a write after Close: %v", err)
	}
	again, err := sqlitefile.Open(t.Context(), path, sqlitefile.Options{Migrations: schema})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := fmt.Sprint(numbers(t, again)); got != "[1]" {
		t.Fatalf("there are %s", got)
	}
}

func TestAFullFileIsErrFullAndWritesWorkAgainWithRoom(t *testing.T) {
	t.Parallel()
	f := open(t, sqlitefile.Options{})
	limit := func(pages int) {
		t.Helper()
		err := f.Write(t.Context(), func(tx *sqlitefile.Tx) error {
			rows, err := tx.Query(fmt.Sprintf("PRAGMA max_page_count = %d", pages))
			if err != nil {
				return err
			}
			return rows.Close()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	large := func(tx *sqlitefile.Tx) error {
		_, err := tx.Exec("INSERT INTO numbers (text) VALUES (hex(zeroblob(200000)))")
		return err
	}
	limit(20)
	for range 3 {
		if err := f.Write(t.Context(), large); !errors.Is(err, sqlitefile.ErrFull) {
			t.Fatalf("a write beyond the limit: %v", err)
		}
	}
	if got := len(numbers(t, f)); got != 0 {
		t.Fatalf("%d rows", got)
	}
	if err := f.Write(t.Context(), insert(1)); err != nil {
		t.Fatalf("a small write: %v", err)
	}
	limit(100_000)
	if err := f.Write(t.Context(), large); err != nil {
		t.Fatal(err)
	}
}

func TestReadersCannotWrite(t *testing.T) {
	t.Parallel()
	f := open(t, sqlitefile.Options{})
	err := f.Read(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO numbers (n) VALUES (1)")
		return err
	})
	if err == nil {
		t.Fatal("a reader wrote")
	}
}

func TestDropSliceDropsIndexesThenTheTable(t *testing.T) {
	t.Parallel()
	f := open(t, sqlitefile.Options{})
	if err := f.Write(t.Context(), insert(1)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{false, true} {
		err := f.Write(t.Context(), func(tx *sqlitefile.Tx) error {
			gone, err := tx.DropSlice("numbers")
			if gone != want {
				t.Errorf("the table is gone: %t, not %t", gone, want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFileThatIsNoDatabaseIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := sqlitefile.Open(t.Context(), t.TempDir(), sqlitefile.Options{Migrations: schema}); err == nil {
		t.Fatal("a directory was opened as a database")
	}
}
