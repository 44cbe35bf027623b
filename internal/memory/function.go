package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// instant gives a time as the stores on disk keep it: in UTC and whole
// microseconds.
func instant(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }

// find gives a function by its names; nil when it is not there.
func (s *Store) find(app, name string) *function {
	for _, f := range s.functions {
		if f.app == app && f.Name == name {
			return f
		}
	}
	return nil
}

// missing says which of app and function is not there.
func (s *Store) missing(app, name string) error {
	if _, ok := s.apps[app]; !ok {
		return core.NotFound("there is no app %q", app)
	}
	return core.NotFound("there is no function %q in the app %q", name, app)
}

func (s *Store) definition(f *function) core.Definition {
	d := core.Definition{App: cloneApp(s.apps[f.app]), Function: f.Function, Version: cloneVersion(f.versions[f.Version-1])}
	d.Function.Annotations = cloneAnnotations(f.Annotations)
	return d
}

// Definitions lists functions by app name, then name.
func (s *Store) Definitions(_ context.Context, app string, page core.Page) (list []core.Definition, next string, err error) {
	after, err := page.After(2)
	if err != nil {
		return nil, "", err
	}
	if after != nil && app != "" && after[0] != app {
		return nil, "", core.Invalid("the cursor %q is of a list of another app", page.Cursor)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*function
	for _, f := range s.functions {
		if app != "" && f.app != app {
			continue
		}
		if after != nil && (f.app < after[0] || f.app == after[0] && f.Name <= after[1]) {
			continue
		}
		found = append(found, f)
	}
	slices.SortFunc(found, func(a, b *function) int {
		return cmp.Or(cmp.Compare(a.app, b.app), cmp.Compare(a.Name, b.Name))
	})
	if n := page.Size(); len(found) > n {
		found, next = found[:n], core.Cursor(found[n-1].app, found[n-1].Name)
	}
	for _, f := range found {
		list = append(list, s.definition(f))
	}
	return list, next, nil
}

// Changes gives changes of functions whose revision is over after.
func (s *Store) Changes(_ context.Context, after int64, limit int) ([]core.Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var changes []core.Change
	for _, f := range s.functions {
		if f.Revision > after {
			changes = append(changes, core.Change{Revision: f.Revision, Definition: s.definition(f)})
		}
	}
	for _, c := range s.gone {
		if c.Revision > after {
			changes = append(changes, c)
		}
	}
	slices.SortFunc(changes, func(a, b core.Change) int { return cmp.Compare(a.Revision, b.Revision) })
	return changes[:min(len(changes), max(limit, 0))], nil
}

// DeleteFunction deletes a function and its versions; its runs stay.
func (s *Store) DeleteFunction(_ context.Context, app, name, ifMatch string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.find(app, name)
	if f == nil {
		return s.missing(app, name)
	}
	if ifMatch != "" && ifMatch != "*" && ifMatch != f.ETag() {
		return changed(f, ifMatch)
	}
	s.revision++
	delete(s.functions, f.ID)
	s.gone = append(s.gone, core.Change{
		Revision: s.revision,
		Deleted:  true,
		Definition: core.Definition{
			App:      core.App{ID: f.AppID, Name: app},
			Function: core.Function{ID: f.ID, AppID: f.AppID, Name: name},
		},
	})
	return nil
}

func changed(f *function, ifMatch string) error {
	return core.Conflict("the function %q in the app %q is at %s, not at %s as the request supposes: read it again and decide anew",
		f.Name, f.app, f.ETag(), ifMatch)
}
