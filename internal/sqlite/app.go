package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

const appColumns = "a.id, a.name, a.description, a.annotations, a.created_at, a.updated_at"

// appRow is where a row of appColumns is read to.
type appRow struct {
	app              core.App
	annotations      sql.RawBytes
	created, updated int64
}

func (r *appRow) dest() []any {
	return []any{&r.app.ID, &r.app.Name, &r.app.Description, &r.annotations, &r.created, &r.updated}
}

func (r *appRow) value() (core.App, error) {
	a := r.app
	a.CreatedAt, a.UpdatedAt = instant(r.created), instant(r.updated)
	return a, readAnnotations(r.annotations, &a.Annotations)
}

func scanApps(rows *sql.Rows) ([]core.App, error) {
	defer rows.Close()
	var apps []core.App
	for rows.Next() {
		var r appRow
		if err := rows.Scan(r.dest()...); err != nil {
			return nil, err
		}
		app, err := r.value()
		if err != nil {
			return nil, err
		}
		apps = append(apps, app)
	}
	return apps, rows.Err()
}

// Apps lists apps by name.
func (s *Store) Apps(ctx context.Context, page core.Page) (apps []core.App, next string, err error) {
	after, err := page.After(1)
	if err != nil {
		return nil, "", err
	}
	name := ""
	if after != nil {
		name = after[0]
	}
	err = s.file.Read(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT "+appColumns+" FROM apps a WHERE a.name > ? ORDER BY a.name LIMIT ?", name, page.Size()+1)
		if err != nil {
			return err
		}
		apps, err = scanApps(rows)
		return err
	})
	if n := page.Size(); len(apps) > n {
		apps, next = apps[:n], core.Cursor(apps[n-1].Name)
	}
	return apps, next, s.describe("listing apps", err)
}

// ensureApp gives the app of a new version and makes it when it is missing.
func (s *Store) ensureApp(tx *sqlitefile.Tx, n core.NewVersion) (core.App, error) {
	rows, err := tx.Query("SELECT "+appColumns+" FROM apps a WHERE a.name = ?", n.App)
	if err != nil {
		return core.App{}, err
	}
	apps, err := scanApps(rows)
	if err != nil {
		return core.App{}, err
	}
	if len(apps) > 0 {
		return apps[0], nil
	}
	at := micros(n.At)
	if _, err := tx.Exec("INSERT INTO apps (id, name, description, annotations, created_at, updated_at) VALUES (?, ?, '', NULL, ?, ?)",
		int64(n.AppID), n.App, at, at); err != nil {
		return core.App{}, fmt.Errorf("making the app %q: %w", n.App, err)
	}
	return core.App{ID: n.AppID, Name: n.App, CreatedAt: instant(at), UpdatedAt: instant(at)}, nil
}

// annotationsText gives annotations as they are stored, nil for none.
func annotationsText(a core.Annotations) (any, error) {
	if len(a) == 0 {
		return nil, nil
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(a); err != nil {
		return nil, core.Invalid("the annotations are not JSON: %v", err)
	}
	return strings.TrimSpace(text.String()), nil
}

func readAnnotations(text []byte, a *core.Annotations) error {
	if len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, a); err != nil {
		return fmt.Errorf("reading annotations: %w", err)
	}
	return nil
}
