package sqlitefile

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrFull is in the chain of an error whose cause is a full disk.
var ErrFull = errors.New("the disk is full")

// explain marks an error whose cause is a full disk. SQLite says so itself
// when a write to the file or its log falls short; where growing its shared
// memory, truncating or syncing fails it says only that I/O failed, and the
// free space has to be asked for.
func (f *File) explain(err error) error {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok || errors.Is(err, ErrFull) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN:
		if f.spaceIsScarce() {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	return err
}

// IsDuplicate reports whether an insert failed because its primary key or
// one of its unique values is there already.
func IsDuplicate(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID, sqlite3.SQLITE_CONSTRAINT_UNIQUE:
		return true
	}
	return false
}
