package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

const (
	functionColumns   = "f.id, f.name, f.description, f.annotations, f.version, f.revision, f.created_at, f.updated_at"
	definitionColumns = appColumns + ", " + functionColumns + ", " + versionColumns
	// The order of the joins is the order of the lists; SQLite keeps to it
	// with CROSS.
	definitionTables = "apps a CROSS JOIN functions f ON f.app_id = a.id CROSS JOIN versions v ON v.function_id = f.id AND v.number = f.version"
	versionByNumber  = "SELECT " + definitionColumns + ` FROM apps a CROSS JOIN functions f ON f.app_id = a.id
		CROSS JOIN versions v ON v.function_id = f.id AND v.number = ? WHERE a.name = ? AND f.name = ?`
	definitionByName = "SELECT " + definitionColumns + " FROM " + definitionTables + " WHERE a.name = ? AND f.name = ?"
)

// definitionRow is where a row of definitionColumns is read to.
type definitionRow struct {
	app              appRow
	function         core.Function
	annotations      sql.RawBytes
	created, updated int64
	version          versionRow
}

func (r *definitionRow) dest() []any {
	f := &r.function
	dest := append(r.app.dest(), &f.ID, &f.Name, &f.Description, &r.annotations, &f.Version, &f.Revision, &r.created, &r.updated)
	return append(dest, r.version.dest()...)
}

func (r *definitionRow) value(specs specMemo) (d core.Definition, err error) {
	d.Function = r.function
	d.Function.AppID = r.app.app.ID
	d.Function.CreatedAt, d.Function.UpdatedAt = instant(r.created), instant(r.updated)
	if d.App, err = r.app.value(); err != nil {
		return d, fmt.Errorf("app %q: %w", r.app.app.Name, err)
	}
	if err := readAnnotations(r.annotations, &d.Function.Annotations); err != nil {
		return d, fmt.Errorf("function %q: %w", r.function.Name, err)
	}
	d.Version, err = r.version.value(r.function, specs)
	if err != nil {
		return d, fmt.Errorf("function %q: %w", r.function.Name, err)
	}
	return d, nil
}

// scanDefinitions reads rows of definitionColumns; there may be a great many,
// so what can be used again for each is.
func scanDefinitions(rows *sql.Rows, expected int) ([]core.Definition, error) {
	defer rows.Close()
	found := make([]core.Definition, 0, min(expected, 1000))
	var r definitionRow
	dest, specs := r.dest(), specMemo{}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		d, err := r.value(specs)
		if err != nil {
			return nil, err
		}
		found = append(found, d)
	}
	return found, rows.Err()
}

// missing says which of app and function is not there, from the error of
// looking for the app.
func missing(app, function string, err error) error {
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return core.NotFound("there is no app %q", app)
	case err != nil:
		return err
	}
	return core.NotFound("there is no function %q in the app %q", function, app)
}

// Definitions lists functions by app name, then name.
func (s *Store) Definitions(ctx context.Context, app string, page core.Page) (list []core.Definition, next string, err error) {
	after, err := page.After(2)
	if err != nil {
		return nil, "", err
	}
	if after == nil {
		after = []string{app, ""}
	}
	if app != "" && after[0] != app {
		return nil, "", core.Invalid("the cursor %q is of a list of another app", page.Cursor)
	}
	want := page.Size() + 1
	err = s.file.Read(ctx, func(tx *sql.Tx) error {
		// First the rest of the app in which the page before ended, then the
		// apps after it: each is a walk along an index.
		rows, err := tx.QueryContext(ctx, "SELECT "+definitionColumns+" FROM "+definitionTables+
			" WHERE a.name = ? AND f.name > ? ORDER BY f.name LIMIT ?", after[0], after[1], want)
		if err != nil {
			return err
		}
		if list, err = scanDefinitions(rows, want); err != nil || app != "" || len(list) >= want {
			return err
		}
		rows, err = tx.QueryContext(ctx, "SELECT "+definitionColumns+" FROM "+definitionTables+
			" WHERE a.name > ? ORDER BY a.name, f.name LIMIT ?", after[0], want-len(list))
		if err != nil {
			return err
		}
		others, err := scanDefinitions(rows, want-len(list))
		list = append(list, others...)
		return err
	})
	if n := page.Size(); len(list) > n {
		list, next = list[:n], core.Cursor(list[n-1].App.Name, list[n-1].Function.Name)
	}
	return list, next, s.describe("listing functions", err)
}

// Changes gives changes of functions whose revision is over after.
func (s *Store) Changes(ctx context.Context, after int64, limit int) (changes []core.Change, err error) {
	err = s.file.Read(ctx, func(tx *sql.Tx) error {
		gone, err := deletions(ctx, tx, after, limit)
		if err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, `SELECT `+definitionColumns+`
			FROM functions f INDEXED BY functions_revision
			CROSS JOIN apps a ON a.id = f.app_id
			CROSS JOIN versions v ON v.function_id = f.id AND v.number = f.version
			WHERE f.revision > ? ORDER BY f.revision LIMIT ?`, after, limit)
		if err != nil {
			return err
		}
		live, err := scanDefinitions(rows, limit)
		if err != nil {
			return err
		}
		changes = mergeChanges(live, gone, limit)
		return nil
	})
	return changes, s.describe("reading changes of functions", err)
}

func deletions(ctx context.Context, tx *sql.Tx, after int64, limit int) ([]core.Change, error) {
	rows, err := tx.QueryContext(ctx, `SELECT revision, function_id, app_id, app, name FROM deleted_functions
		WHERE revision > ? ORDER BY revision LIMIT ?`, after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var gone []core.Change
	for rows.Next() {
		c := core.Change{Deleted: true}
		d := &c.Definition
		if err := rows.Scan(&c.Revision, &d.Function.ID, &d.App.ID, &d.App.Name, &d.Function.Name); err != nil {
			return nil, err
		}
		d.Function.AppID = d.App.ID
		gone = append(gone, c)
	}
	return gone, rows.Err()
}

// mergeChanges puts two lists in the order of their revisions.
func mergeChanges(live []core.Definition, gone []core.Change, limit int) []core.Change {
	changes := make([]core.Change, 0, min(len(live)+len(gone), limit))
	for len(changes) < limit && len(live)+len(gone) > 0 {
		if len(live) == 0 || len(gone) > 0 && gone[0].Revision < live[0].Function.Revision {
			changes, gone = append(changes, gone[0]), gone[1:]
			continue
		}
		changes = append(changes, core.Change{Revision: live[0].Function.Revision, Definition: live[0]})
		live = live[1:]
	}
	return changes
}

// DeleteFunction deletes a function and its versions; its runs stay.
func (s *Store) DeleteFunction(ctx context.Context, app, function, ifMatch string) error {
	return s.write(ctx, "deleting a function", func(tx *sqlitefile.Tx) error {
		f, err := findFunction(tx, app, function)
		if err != nil {
			return err
		}
		if ifMatch != "" && ifMatch != "*" && ifMatch != f.ETag() {
			return changed(app, function, f, ifMatch)
		}
		revision, err := nextRevision(tx)
		if err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM versions WHERE function_id = ?", int64(f.ID)); err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM functions WHERE id = ?", int64(f.ID)); err != nil {
			return err
		}
		_, err = tx.Exec("INSERT INTO deleted_functions (revision, function_id, app_id, app, name) VALUES (?, ?, ?, ?, ?)",
			revision, int64(f.ID), int64(f.AppID), app, function)
		return err
	})
}

// findFunction gives what a change needs to know of a function.
func findFunction(tx *sqlitefile.Tx, app, function string) (f core.Function, err error) {
	var appID int64
	err = tx.QueryRow("SELECT id FROM apps WHERE name = ?", []any{app}, &appID)
	if err != nil {
		return f, missing(app, function, err)
	}
	err = tx.QueryRow("SELECT id, app_id, revision FROM functions WHERE app_id = ? AND name = ?",
		[]any{appID, function}, &f.ID, &f.AppID, &f.Revision)
	if errors.Is(err, sql.ErrNoRows) {
		return f, missing(app, function, nil)
	}
	return f, err
}

func changed(app, function string, f core.Function, ifMatch string) error {
	return core.Conflict("the function %q in the app %q is at %s, not at %s as the request supposes: read it again and decide anew",
		function, app, f.ETag(), ifMatch)
}

// nextRevision counts a change.
func nextRevision(tx *sqlitefile.Tx) (revision int64, err error) {
	if _, err := tx.Exec("UPDATE revision SET last = last + 1"); err != nil {
		return 0, fmt.Errorf("counting a change: %w", err)
	}
	return revision, tx.QueryRow("SELECT last FROM revision", nil, &revision)
}
