package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

const versionColumns = "v.number, v.image, v.env, v.spec, v.digest, v.created_at, v.created_by, v.restores"

// versionRow is where a row of versionColumns is read to.
type versionRow struct {
	version core.Version
	env     sql.RawBytes
	spec    sql.RawBytes
	created int64
}

func (r *versionRow) dest() []any {
	v := &r.version
	return []any{&v.Number, &v.Spec.Image, &r.env, &r.spec, &v.Digest, &r.created, &v.CreatedBy, &v.Restores}
}

// value gives the version, which is one of f's.
func (r *versionRow) value(f core.Function, memo specMemo) (v core.Version, err error) {
	v = r.version
	v.FunctionID, v.CreatedAt = f.ID, instant(r.created)
	if v.Spec, err = memo.read(r.spec); err != nil {
		return v, fmt.Errorf("reading the spec of version %d: %w", v.Number, err)
	}
	v.Spec.Image = r.version.Spec.Image
	if len(r.env) > 0 {
		if err := json.Unmarshal(r.env, &v.Spec.Env); err != nil {
			return v, fmt.Errorf("reading the env of version %d: %w", v.Number, err)
		}
	}
	return v, nil
}

// specMemo holds specs, without image and env, by their JSON. Most functions
// differ in image and env only: with the memo the first look at 100,000
// functions takes half as long.
type specMemo map[string]core.Spec

// maxMemo bounds a memo, for those whose functions do differ.
const maxMemo = 1000

func (m specMemo) read(text []byte) (spec core.Spec, err error) {
	spec, ok := m[string(text)]
	if !ok {
		// Specs that were written before they said so are of instances that
		// take one request at a time, have the weight of all others, and are
		// frozen as these are.
		spec.Concurrency.PerInstance = 1
		spec.CPUWeight = core.DefaultCPUWeight
		spec.Instances.Freeze = core.DefaultFreeze
		if err := json.Unmarshal(text, &spec); err != nil {
			return spec, fmt.Errorf("decoding %s: %w", text, err)
		}
		if len(m) >= maxMemo {
			clear(m)
		}
		m[string(text)] = spec
	}
	// Whoever gets the spec may change what is in it.
	spec.Command, spec.Mounts = slices.Clone(spec.Command), slices.Clone(spec.Mounts)
	return spec, nil
}

// specText gives a spec as it is stored: image and env apart, env nil for
// none.
func specText(spec core.Spec) (text string, env any, err error) {
	if len(spec.Env) > 0 {
		e, err := json.Marshal(spec.Env)
		if err != nil {
			return "", nil, fmt.Errorf("encoding the env: %w", err)
		}
		env = string(e)
	}
	spec.Image, spec.Env = "", nil
	b, err := json.Marshal(spec)
	if err != nil {
		return "", nil, fmt.Errorf("encoding the spec: %w", err)
	}
	// A row that cannot be read would spoil every list it stands in.
	var back core.Spec
	if err := json.Unmarshal(b, &back); err != nil {
		return "", nil, fmt.Errorf("decoding the spec again: %w", err)
	}
	return string(b), env, nil
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
	rows, err := tx.Query(definitionByName, n.App, n.Function)
	if err != nil {
		return d, err
	}
	found, err := scanDefinitions(rows, 1)
	if err != nil {
		return d, err
	}
	if len(found) == 0 {
		return s.makeFunction(tx, n)
	}
	d = found[0]
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
	v := core.Version{
		FunctionID: id, Number: number, Spec: n.Spec, Digest: n.Digest,
		CreatedAt: instant(micros(n.At)), CreatedBy: n.By, Restores: n.Restores,
	}
	spec, env, err := specText(n.Spec)
	if err != nil {
		return v, core.Invalid("the spec of the function %q cannot be written down: %v", n.Function, err)
	}
	_, err = tx.Exec("INSERT INTO versions (function_id, number, image, env, spec, digest, created_at, created_by, restores) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		int64(id), number, n.Spec.Image, env, spec, n.Digest, micros(n.At), n.By, n.Restores)
	if err != nil {
		return v, fmt.Errorf("writing version %d of the function %q: %w", number, n.Function, err)
	}
	return v, nil
}

// Version gives a function with one of its versions, the one that is called
// for the number 0.
func (s *Store) Version(ctx context.Context, app, function string, number int) (d core.Definition, err error) {
	err = s.file.Read(ctx, func(tx *sql.Tx) error {
		d, err = oneVersion(ctx, tx, app, function, number)
		return err
	})
	return d, s.describe("reading a version", err)
}

func oneVersion(ctx context.Context, tx *sql.Tx, app, function string, number int) (d core.Definition, err error) {
	query, args := definitionByName, []any{app, function}
	if number != 0 {
		query, args = versionByNumber, []any{number, app, function}
	}
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return d, err
	}
	found, err := scanDefinitions(rows, 1)
	switch {
	case err != nil:
		return d, err
	case len(found) > 0:
		return found[0], nil
	case number != 0:
		d, err = oneVersion(ctx, tx, app, function, 0)
		if err != nil {
			return d, err
		}
		return d, noVersion(d.Function, app, number)
	}
	var one int
	return d, missing(app, function, tx.QueryRowContext(ctx, "SELECT 1 FROM apps WHERE name = ?", app).Scan(&one))
}

func noVersion(f core.Function, app string, number int) error {
	return core.NotFound("the function %q in the app %q has no version %d: it is at version %d", f.Name, app, number, f.Version)
}

// Versions lists the versions of a function, newest first.
func (s *Store) Versions(ctx context.Context, app, function string, page core.Page) (list []core.Version, next string, err error) {
	before, err := page.AfterNumber()
	if err != nil {
		return nil, "", err
	}
	want := page.Size() + 1
	err = s.file.Read(ctx, func(tx *sql.Tx) error {
		d, err := oneVersion(ctx, tx, app, function, 0)
		if err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, "SELECT "+versionColumns+` FROM versions v
			WHERE v.function_id = ? AND v.number < ? ORDER BY v.number DESC LIMIT ?`, int64(d.Function.ID), before, want)
		if err != nil {
			return err
		}
		list, err = scanVersions(rows, d.Function)
		return err
	})
	if n := page.Size(); len(list) > n {
		list, next = list[:n], core.Cursor(strconv.Itoa(list[n-1].Number))
	}
	return list, next, s.describe("listing versions", err)
}

func scanVersions(rows *sql.Rows, f core.Function) (list []core.Version, err error) {
	defer rows.Close()
	var r versionRow
	dest, specs := r.dest(), specMemo{}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		v, err := r.value(f, specs)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// PinVersion gives a version that has no digest this one, and tells which it
// has. Followers of changes learn of it.
func (s *Store) PinVersion(ctx context.Context, id core.FunctionID, number int, digest string) (pinned string, err error) {
	err = s.write(ctx, "pinning a version", func(tx *sqlitefile.Tx) error {
		pinned, err = pinVersion(tx, id, number, digest)
		return err
	})
	if err != nil {
		return "", err
	}
	return pinned, nil
}

func pinVersion(tx *sqlitefile.Tx, id core.FunctionID, number int, digest string) (pinned string, err error) {
	err = tx.QueryRow("SELECT digest FROM versions WHERE function_id = ? AND number = ?", []any{int64(id), number}, &pinned)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", core.NotFound("there is no version %d of the function %s any more", number, id)
	case err != nil || pinned != "":
		return pinned, err
	}
	if _, err := tx.Exec("UPDATE versions SET digest = ? WHERE function_id = ? AND number = ?", digest, int64(id), number); err != nil {
		return "", err
	}
	revision, err := nextRevision(tx)
	if err != nil {
		return "", err
	}
	_, err = tx.Exec("UPDATE functions SET revision = ? WHERE id = ?", revision, int64(id))
	return digest, err
}
