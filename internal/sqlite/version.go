package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

const versionColumns = "v.function_id, v.number, v.spec, v.digest, v.created_at, v.created_by"

// versionRow is where a row of versionColumns is read to.
type versionRow struct {
	version core.Version
	spec    []byte
	created int64
}

func (r *versionRow) dest() []any {
	v := &r.version
	return []any{&v.FunctionID, &v.Number, &r.spec, &v.Digest, &r.created, &v.CreatedBy}
}

func (r *versionRow) value() (core.Version, error) {
	v := r.version
	v.CreatedAt = instant(r.created)
	if err := json.Unmarshal(r.spec, &v.Spec); err != nil {
		return v, fmt.Errorf("reading the spec of version %d: %w", v.Number, err)
	}
	return v, nil
}

// SaveVersion makes a new version of a function and makes it the one that is
// called.
func (s *Store) SaveVersion(ctx context.Context, n core.NewVersion) (d core.Definition, err error) {
	err = s.write(ctx, "saving a version", func(tx *sqlitefile.Tx) error {
		d, err = s.saveVersion(tx, n)
		return err
	})
	if err != nil {
		return core.Definition{}, err
	}
	return d, nil
}

func (s *Store) saveVersion(tx *sqlitefile.Tx, n core.NewVersion) (d core.Definition, err error) {
	var r definitionRow
	err = tx.QueryRow("SELECT "+definitionColumns+" FROM "+definitionTables+" WHERE a.name = ? AND f.name = ?",
		[]any{n.App, n.Function}, r.dest()...)
	if errors.Is(err, sql.ErrNoRows) {
		return s.makeFunction(tx, n)
	}
	if err != nil {
		return d, err
	}
	if d, err = r.value(); err != nil {
		return d, err
	}
	f := &d.Function
	switch {
	case n.Create:
		return d, core.Conflict("the function %q is in the app %q already", n.Function, n.App)
	case n.IfMatch != "" && n.IfMatch != "*" && n.IfMatch != f.ETag():
		return d, changed(n.App, n.Function, *f, n.IfMatch)
	}
	same := d.Version.Digest == n.Digest && d.Version.Spec.Equal(n.Spec)
	if same && f.Description == n.Description && f.Annotations.Equal(n.Annotations) {
		return d, nil
	}
	f.Description, f.Annotations, f.UpdatedAt = n.Description, n.Annotations, instant(micros(n.At))
	if !same {
		if err := tx.QueryRow("SELECT versions + 1 FROM functions WHERE id = ?", []any{int64(f.ID)}, &f.Version); err != nil {
			return d, err
		}
		if d.Version, err = insertVersion(tx, f.ID, f.Version, n); err != nil {
			return d, err
		}
	}
	return d, updateFunction(tx, f)
}

func updateFunction(tx *sqlitefile.Tx, f *core.Function) (err error) {
	annotations, err := annotationsText(f.Annotations)
	if err != nil {
		return err
	}
	if f.Revision, err = nextRevision(tx); err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE functions SET description = ?, annotations = ?, version = ?,
		versions = max(versions, ?), revision = ?, updated_at = ? WHERE id = ?`,
		f.Description, annotations, f.Version, f.Version, f.Revision, micros(f.UpdatedAt), int64(f.ID))
	return err
}

// makeFunction makes a function that is not there, with its first version.
func (s *Store) makeFunction(tx *sqlitefile.Tx, n core.NewVersion) (d core.Definition, err error) {
	switch n.IfMatch {
	case "":
	case "*":
		_, err := findFunction(tx, n.App, n.Function)
		return d, err
	default:
		return d, core.Conflict("there is no function %q in the app %q, so it cannot be at %s as the request supposes",
			n.Function, n.App, n.IfMatch)
	}
	annotations, err := annotationsText(n.Annotations)
	if err != nil {
		return d, err
	}
	if d.App, err = s.ensureApp(tx, n); err != nil {
		return d, err
	}
	at := micros(n.At)
	d.Function = core.Function{
		ID: n.FunctionID, AppID: d.App.ID, Name: n.Function, Description: n.Description, Annotations: n.Annotations,
		Version: 1, CreatedAt: instant(at), UpdatedAt: instant(at),
	}
	if d.Function.Revision, err = nextRevision(tx); err != nil {
		return d, err
	}
	_, err = tx.Exec(`INSERT INTO functions (id, app_id, name, description, annotations, version, versions, revision, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, 1, 1, ?, ?, ?)`,
		int64(n.FunctionID), int64(d.App.ID), n.Function, n.Description, annotations, d.Function.Revision, at, at)
	if err != nil {
		return d, fmt.Errorf("making the function %q: %w", n.Function, err)
	}
	d.Version, err = insertVersion(tx, n.FunctionID, 1, n)
	return d, err
}

func insertVersion(tx *sqlitefile.Tx, id core.FunctionID, number int, n core.NewVersion) (core.Version, error) {
	v := core.Version{FunctionID: id, Number: number, Spec: n.Spec, Digest: n.Digest, CreatedAt: instant(micros(n.At)), CreatedBy: n.By}
	spec, err := json.Marshal(n.Spec)
	if err != nil {
		return v, core.Invalid("the spec of the function %q cannot be written down: %v", n.Function, err)
	}
	_, err = tx.Exec("INSERT INTO versions (function_id, number, spec, digest, created_at, created_by) VALUES (?, ?, ?, ?, ?, ?)",
		int64(id), number, string(spec), n.Digest, micros(n.At), n.By)
	if err != nil {
		return v, fmt.Errorf("writing version %d of the function %q: %w", number, n.Function, err)
	}
	return v, nil
}
