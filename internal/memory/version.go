package memory

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/dayfly-io/dayfly/internal/core"
)

// SaveVersion makes a new version of a function and makes it the one that is
// called.
func (s *Store) SaveVersion(_ context.Context, n core.NewVersion) (core.Definition, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.find(n.App, n.Function)
	if f == nil {
		return s.makeFunction(n)
	}
	switch {
	case n.Create:
		return core.Definition{}, core.Conflict("the function %q is in the app %q already", n.Function, n.App)
	case n.IfMatch != "" && n.IfMatch != "*" && n.IfMatch != f.ETag():
		return core.Definition{}, changed(f, n.IfMatch)
	}
	current := f.versions[f.Version-1]
	same := current.Digest == n.Digest && current.Spec.Equal(n.Spec)
	if same && f.Description == n.Description && f.Annotations.Equal(n.Annotations) {
		return s.definition(f), nil
	}
	s.revision++
	f.Description, f.Annotations = n.Description, cloneAnnotations(n.Annotations)
	f.Revision, f.UpdatedAt = s.revision, instant(n.At)
	if !same {
		f.versions = append(f.versions, newVersion(f.ID, len(f.versions)+1, n))
		f.Version = len(f.versions)
	}
	return s.definition(f), nil
}

// makeFunction makes a function that is not there, with its first version.
func (s *Store) makeFunction(n core.NewVersion) (core.Definition, error) {
	switch n.IfMatch {
	case "":
	case "*":
		return core.Definition{}, s.missing(n.App, n.Function)
	default:
		return core.Definition{}, core.Conflict("there is no function %q in the app %q, so it cannot be at %s as the request supposes",
			n.Function, n.App, n.IfMatch)
	}
	app := s.ensureApp(n)
	s.revision++
	at := instant(n.At)
	f := &function{
		Function: core.Function{
			ID: n.FunctionID, AppID: app.ID, Name: n.Function, Description: n.Description,
			Annotations: cloneAnnotations(n.Annotations), Version: 1, Revision: s.revision, CreatedAt: at, UpdatedAt: at,
		},
		app:      n.App,
		versions: []core.Version{newVersion(n.FunctionID, 1, n)},
	}
	s.functions[f.ID] = f
	return s.definition(f), nil
}

func newVersion(id core.FunctionID, number int, n core.NewVersion) core.Version {
	return cloneVersion(core.Version{
		FunctionID: id, Number: number, Spec: n.Spec, Digest: n.Digest, CreatedAt: instant(n.At), CreatedBy: n.By, Restores: n.Restores,
	})
}

func cloneVersion(v core.Version) core.Version {
	v.Spec.Command, v.Spec.Env = slices.Clone(v.Spec.Command), maps.Clone(v.Spec.Env)
	v.Spec.Mounts = slices.Clone(v.Spec.Mounts)
	return v
}

// Version gives a function with one of its versions, the one that is called
// for the number 0.
func (s *Store) Version(_ context.Context, app, name string, number int) (core.Definition, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.find(app, name)
	if f == nil {
		return core.Definition{}, s.missing(app, name)
	}
	d := s.definition(f)
	if number < 0 || number > len(f.versions) {
		return core.Definition{}, core.NotFound("the function %q in the app %q has no version %d: it is at version %d", name, app, number, f.Version)
	}
	if number > 0 {
		d.Version = cloneVersion(f.versions[number-1])
	}
	return d, nil
}

// Versions lists the versions of a function, newest first.
func (s *Store) Versions(_ context.Context, app, name string, page core.Page) (list []core.Version, next string, err error) {
	before, err := page.AfterNumber()
	if err != nil {
		return nil, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.find(app, name)
	if f == nil {
		return nil, "", s.missing(app, name)
	}
	for _, v := range slices.Backward(f.versions) {
		if v.Number >= before {
			continue
		}
		if len(list) == page.Size() {
			return list, core.Cursor(strconv.Itoa(list[len(list)-1].Number)), nil
		}
		list = append(list, cloneVersion(v))
	}
	return list, "", nil
}

// PinVersion gives a version that has no digest this one, and tells which it
// has.
func (s *Store) PinVersion(_ context.Context, id core.FunctionID, number int, digest string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.functions[id]
	if f == nil || number < 1 || number > len(f.versions) {
		return "", core.NotFound("there is no version %d of the function %s any more", number, id)
	}
	v := &f.versions[number-1]
	if v.Digest == "" {
		v.Digest = digest
		s.revision++
		f.Revision = s.revision
	}
	return v.Digest, nil
}
