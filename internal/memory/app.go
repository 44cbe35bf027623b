package memory

import (
	"context"
	"maps"
	"slices"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Apps lists apps by name.
func (s *Store) Apps(_ context.Context, page core.Page) (apps []core.App, next string, err error) {
	after, err := page.After(1)
	if err != nil {
		return nil, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.apps)) {
		if after != nil && name <= after[0] {
			continue
		}
		if len(apps) == page.Size() {
			return apps, core.Cursor(apps[len(apps)-1].Name), nil
		}
		apps = append(apps, cloneApp(s.apps[name]))
	}
	return apps, "", nil
}

// ensureApp gives the app of a new version and makes it when it is missing.
func (s *Store) ensureApp(n core.NewVersion) core.App {
	app, ok := s.apps[n.App]
	if !ok {
		at := instant(n.At)
		app = core.App{ID: n.AppID, Name: n.App, CreatedAt: at, UpdatedAt: at}
		s.apps[n.App] = app
	}
	return app
}

func cloneApp(a core.App) core.App {
	a.Annotations = cloneAnnotations(a.Annotations)
	return a
}

func cloneAnnotations(a core.Annotations) core.Annotations {
	if len(a) == 0 {
		return nil
	}
	c := make(core.Annotations, len(a))
	for k, v := range a {
		c[k] = slices.Clone(v)
	}
	return c
}
