package sqlitefile

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// Tx is the transaction a write stands in. Each query's text is prepared
// once and kept.
type Tx struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	each  map[string]driver.Stmt
	wrote bool
}

// background is the context of every statement of the writer: the transaction
// is shared, so no caller's end may cut it short.
func background() context.Context {
	return context.Background() //nolint:forbidigo // the writer outlives its callers
}

// Exec runs a statement that writes.
func (t *Tx) Exec(query string, args ...any) (sql.Result, error) {
	t.wrote = true
	return t.exec(query, args...)
}

func (t *Tx) exec(query string, args ...any) (sql.Result, error) {
	s, err := t.stmt(query) //nolint:sqlclosecheck // it is kept for the next time; forget closes it
	if err != nil {
		return nil, err
	}
	return s.ExecContext(background(), args...)
}

// Query runs a statement that reads. Its rows must be closed before the next
// statement.
func (t *Tx) Query(query string, args ...any) (*sql.Rows, error) {
	s, err := t.stmt(query) //nolint:sqlclosecheck // it is kept for the next time; forget closes it
	if err != nil {
		return nil, err
	}
	return s.QueryContext(background(), args...)
}

// QueryRow reads one row into dest; [sql.ErrNoRows] when there is none.
func (t *Tx) QueryRow(query string, args []any, dest ...any) error {
	s, err := t.stmt(query) //nolint:sqlclosecheck // it is kept for the next time; forget closes it
	if err != nil {
		return err
	}
	return s.QueryRowContext(background(), args...).Scan(dest...)
}

func (t *Tx) stmt(query string) (*sql.Stmt, error) {
	if s, ok := t.stmts[query]; ok {
		return s, nil
	}
	s, err := t.conn.PrepareContext(background(), query)
	if err != nil {
		return nil, fmt.Errorf("preparing %q: %w", query, err)
	}
	if t.stmts == nil {
		t.stmts = map[string]*sql.Stmt{}
	}
	t.stmts[query] = s
	return s, nil
}

// Each runs a statement that writes n times, with args as bind fills them in
// for the i-th time: each int64, float64, string, []byte or nil. It stands
// below database/sql, whose conversions would be a fifth of the cost of a
// small insert. On an error it tells which time it was; the times before
// stand, and the caller may go on after it.
func (t *Tx) Each(query string, n, args int, bind func(i int, args []driver.NamedValue)) (failed int, err error) {
	t.wrote = true
	err = t.conn.Raw(func(conn any) error {
		s, err := t.rawStmt(conn, query)
		if err != nil {
			return err
		}
		values := make([]driver.NamedValue, args)
		for i := range values {
			values[i].Ordinal = i + 1
		}
		for ; failed < n; failed++ {
			bind(failed, values)
			if _, err := s.ExecContext(background(), values); err != nil {
				return fmt.Errorf("time %d of %d: %w", failed+1, n, err)
			}
		}
		return nil
	})
	return failed, err
}

func (t *Tx) rawStmt(conn any, query string) (driver.StmtExecContext, error) {
	s, ok := t.each[query]
	if !ok {
		preparer, ok := conn.(driver.ConnPrepareContext)
		if !ok {
			return nil, errors.New("the driver's connection cannot prepare")
		}
		var err error
		if s, err = preparer.PrepareContext(background(), query); err != nil {
			return nil, fmt.Errorf("preparing %q: %w", query, err)
		}
		if t.each == nil {
			t.each = map[string]driver.Stmt{}
		}
		t.each[query] = s
	}
	run, ok := s.(driver.StmtExecContext)
	if !ok {
		return nil, errors.New("the driver's statement cannot run")
	}
	return run, nil
}

// DropSlice drops one index of a table, or the table when none is left, and
// tells whether the table is gone. Dropping a large table at once would hold
// up other writes for as long as all of its slices together.
func (t *Tx) DropSlice(table string) (gone bool, err error) {
	t.forget()
	var index string
	err = t.QueryRow("SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? LIMIT 1", []any{table}, &index)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		_, err = t.Exec("DROP TABLE IF EXISTS " + table)
		gone = err == nil
	case err == nil:
		_, err = t.Exec("DROP INDEX " + index)
	}
	if err != nil {
		return false, fmt.Errorf("dropping a part of %s: %w", table, err)
	}
	return gone, nil
}

// forget lets go of all prepared statements, so that those of tables long gone
// do not gather.
func (t *Tx) forget() {
	// A statement that cannot be closed is closed with its connection.
	for _, s := range t.stmts {
		_ = s.Close()
	}
	_ = t.conn.Raw(func(any) error {
		for _, s := range t.each {
			_ = s.Close()
		}
		return nil
	})
	t.stmts, t.each = nil, nil
}
