package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Definitions checks a store of definitions; open opens an empty one.
func Definitions(t *testing.T, open func(*testing.T) DefinitionStore) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *definitions)
	}{
		{"a first version makes app and function", firstVersion},
		{"every field of a spec comes back", specComesBack},
		{"a version is numbered after the last", versionsAreNumbered},
		{"an equal spec and digest make no new version", equalMakesNone},
		{"description and annotations are taken over without a version", notesAreTakenOver},
		{"Create refuses what exists and leaves it alone", createRefuses},
		{"IfMatch lets pass only what is as supposed", ifMatch},
		{"what is missing is named", missingIsNamed},
		{"what is given out cannot change what is kept", nothingIsShared},
		{"functions are listed by app and name, page by page", functionsAreListed},
		{"apps are listed by name, page by page", appsAreListed},
		{"a bad cursor is invalid", badDefinitionCursor},
		{"a deleted function is gone and can be made anew", deletedIsGone},
		{"changes follow the revision and show each function once", changesFollow},
		{"changes cut in any way lead to the same state", changesConverge},
		{"every version can be read and listed, newest first", versionsAreListed},
		{"a version that restores another says so", restoring},
		{"a version is pinned once, and followers learn of it", versionIsPinnedOnce},
		{"of those who pin a version one decides", onePinDecides},
		{"of writers that suppose the same state one wins", oneWriterWins},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, &definitions{DefinitionStore: open(t)})
		})
	}
}

// definitions is a store with a source of ids.
type definitions struct {
	DefinitionStore
	mu   sync.Mutex
	last int64
}

func (s *definitions) id() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	return s.last
}

// ask makes a request for a version whose image is named.
func (s *definitions) ask(app, function, image string) core.NewVersion {
	return core.NewVersion{
		App: app, Function: function, Spec: core.Spec{Image: image}.WithDefaults(), Digest: "sha256:" + image, By: "tester",
		AppID: core.AppID(s.id()), FunctionID: core.FunctionID(s.id()), At: start,
	}
}

func (s *definitions) save(t *testing.T, n core.NewVersion) core.Definition {
	t.Helper()
	return must(s.SaveVersion(t.Context(), n))(t)
}

func firstVersion(t *testing.T, s *definitions) {
	n := s.ask("shop", "resize", "one")
	n.Description, n.Annotations = "makes small", core.Annotations{"team": json.RawMessage(`{"name":"<b>"}`)}
	got := s.save(t, n)
	want := core.Definition{
		App: core.App{ID: n.AppID, Name: "shop", CreatedAt: start, UpdatedAt: start},
		Function: core.Function{
			ID: n.FunctionID, AppID: n.AppID, Name: "resize", Description: "makes small", Annotations: n.Annotations,
			Version: 1, Revision: got.Function.Revision, CreatedAt: start, UpdatedAt: start,
		},
		Version: core.Version{FunctionID: n.FunctionID, Number: 1, Spec: n.Spec, Digest: n.Digest, CreatedAt: start, CreatedBy: "tester"},
	}
	equal(t, "what SaveVersion answers", got, want)
	equal(t, "what Version answers", must(s.Version(t.Context(), "shop", "resize", 0))(t), want)
	other := s.save(t, s.ask("shop", "crop", "one"))
	equal(t, "the app of a second function", other.App, want.App)
	if other.Function.Revision <= got.Function.Revision {
		t.Fatalf("the revision went from %d to %d", got.Function.Revision, other.Function.Revision)
	}
}

func specComesBack(t *testing.T, s *definitions) {
	n := s.ask("shop", "resize", "one")
	n.Spec = filled[core.Spec]()
	s.save(t, n)
	equal(t, "the spec", must(s.Version(t.Context(), "shop", "resize", 0))(t).Version.Spec, n.Spec)
}

func versionsAreNumbered(t *testing.T, s *definitions) {
	for number, image := range []string{"one", "two", "one", "three"} {
		d := s.save(t, s.ask("shop", "resize", image))
		if d.Function.Version != number+1 || d.Version.Number != number+1 || d.Version.Spec.Image != image {
			t.Fatalf("version %d of the image %s is %s", number+1, image, show(d))
		}
	}
	if d := s.save(t, s.ask("shop", "crop", "one")); d.Version.Number != 1 {
		t.Fatalf("the first version of another function has the number %d", d.Version.Number)
	}
}

func versionsAreListed(t *testing.T, s *definitions) {
	const n = 7
	var want []core.Version
	for i := range n {
		ask := s.ask("shop", "resize", fmt.Sprint("image", i))
		ask.By, ask.At = fmt.Sprint("person", i), start.Add(time.Duration(i)*time.Hour)
		s.save(t, s.ask("shop", "crop", fmt.Sprint("image", i)))
		d := s.save(t, ask)
		want = append(want, d.Version)
		one := must(s.Version(t.Context(), "shop", "resize", i+1))(t)
		equal(t, "the version just made", one, d)
	}
	first := must(s.Version(t.Context(), "shop", "resize", 1))(t)
	equal(t, "the first version", first.Version, want[0])
	equal(t, "the number that is called", first.Function.Version, n)
	slices.Reverse(want)
	for _, size := range []int{1, 3, n, 100} {
		var got []core.Version
		for page := (core.Page{Limit: size}); ; {
			list, next, err := s.Versions(t.Context(), "shop", "resize", page)
			ok(t, err)
			if len(list) > size || next != "" && len(list) < size {
				t.Fatalf("a page of %d has %d versions", size, len(list))
			}
			got = append(got, list...)
			if page.Cursor = next; next == "" {
				break
			}
		}
		equal(t, "the versions", got, want)
	}
	for _, number := range []int{n + 1, 1000, -1} {
		_, err := s.Version(t.Context(), "shop", "resize", number)
		isKind(t, err, core.KindNotFound)
		equal(t, "the message", core.AsError(err).Message, fmt.Sprintf(`the function "resize" in the app "shop" has no version %d: it is at version %d`, number, n))
	}
	for _, name := range []string{"shop", "nowhere"} {
		_, _, err := s.Versions(t.Context(), name, "nothing", core.Page{})
		isKind(t, err, core.KindNotFound)
		_, err = s.Version(t.Context(), name, "nothing", 1)
		isKind(t, err, core.KindNotFound)
	}
	_, _, err := s.Versions(t.Context(), "shop", "resize", core.Page{Cursor: core.Cursor("x")})
	isKind(t, err, core.KindInvalid)
}

func restoring(t *testing.T, s *definitions) {
	first := s.save(t, s.ask("shop", "resize", "one"))
	s.save(t, s.ask("shop", "resize", "two"))
	n := s.ask("shop", "resize", "one")
	n.Restores = 1
	third := s.save(t, n)
	if third.Version.Number != 3 || third.Version.Restores != 1 || third.Version.Origin() != 1 || first.Version.Origin() != 1 {
		t.Fatalf("the version that restores the first is %s", show(third.Version))
	}
	list := firstOf(s.Versions(t.Context(), "shop", "resize", core.Page{}))(t)
	equal(t, "what it restores, in the list", list[0], third.Version)
	equal(t, "what the change tells", must(s.Changes(t.Context(), 0, 10))(t)[0].Definition, third)
}

func equalMakesNone(t *testing.T, s *definitions) {
	n := s.ask("shop", "resize", "one")
	n.Annotations = core.Annotations{"a": json.RawMessage(`{"x": [1, "<"]}`)}
	first := s.save(t, n)
	n.At = start.Add(1e9)
	n.Spec.Env, n.Spec.Command = map[string]string{}, []string{}
	again := s.save(t, n).Function
	equal(t, "the tag after saving the same", again.ETag(), first.Function.ETag())
	equal(t, "the instant of change after saving the same", again.UpdatedAt, start)
	equal(t, "the changes after saving the same", len(must(s.Changes(t.Context(), first.Function.Revision, 10))(t)), 0)
	n.Digest = "sha256:other"
	equal(t, "the version with another digest", s.save(t, n).Version.Number, 2)
}

func notesAreTakenOver(t *testing.T, s *definitions) {
	first := s.save(t, s.ask("shop", "resize", "one"))
	n := s.ask("shop", "resize", "one")
	n.Description, n.Annotations, n.At = "new", core.Annotations{"a": json.RawMessage("1")}, start.Add(1e9)
	second := s.save(t, n)
	equal(t, "the version", second.Version, first.Version)
	if f := second.Function; f.Description != "new" || string(f.Annotations["a"]) != "1" || !f.UpdatedAt.Equal(n.At) ||
		!f.CreatedAt.Equal(start) || f.Revision <= first.Function.Revision {
		t.Fatalf("the function is %s after %s", show(f), show(first.Function))
	}
	equal(t, "what is kept", must(s.Version(t.Context(), "shop", "resize", 0))(t), second)
}

func createRefuses(t *testing.T, s *definitions) {
	n := s.ask("shop", "resize", "one")
	n.Create = true
	first := s.save(t, n)
	n = s.ask("shop", "resize", "two")
	n.Create = true
	_, err := s.SaveVersion(t.Context(), n)
	isKind(t, err, core.KindConflict)
	equal(t, "what is kept", must(s.Version(t.Context(), "shop", "resize", 0))(t), first)
}

func ifMatch(t *testing.T, s *definitions) {
	for _, tag := range []string{"*", `"x"`} {
		n := s.ask("shop", "resize", "one")
		n.IfMatch = tag
		_, err := s.SaveVersion(t.Context(), n)
		isKind(t, err, map[string]core.Kind{"*": core.KindNotFound, `"x"`: core.KindConflict}[tag])
		equal(t, "the apps after a refusal", len(firstOf(s.Apps(t.Context(), core.Page{}))(t)), 0)
	}
	first := s.save(t, s.ask("shop", "resize", "one"))
	n := s.ask("shop", "resize", "two")
	n.IfMatch = first.Function.ETag()
	second := s.save(t, n)
	_, err := s.SaveVersion(t.Context(), n)
	isKind(t, err, core.KindConflict)
	isKind(t, s.DeleteFunction(t.Context(), "shop", "resize", first.Function.ETag()), core.KindConflict)
	n = s.ask("shop", "resize", "three")
	n.IfMatch = "*"
	third := s.save(t, n)
	equal(t, "the number of the version", third.Version.Number, second.Version.Number+1)
	ok(t, s.DeleteFunction(t.Context(), "shop", "resize", third.Function.ETag()))
}

func firstOf[T any](v []T, _ string, err error) func(testing.TB) []T { return must(v, err) }

func missingIsNamed(t *testing.T, s *definitions) {
	s.save(t, s.ask("shop", "resize", "one"))
	for _, c := range []struct{ app, function, says string }{
		{"nowhere", "resize", `there is no app "nowhere"`},
		{"shop", "nothing", `there is no function "nothing" in the app "shop"`},
	} {
		_, err := s.Version(t.Context(), c.app, c.function, 0)
		isKind(t, err, core.KindNotFound)
		equal(t, "the message", core.AsError(err).Message, c.says)
		err = s.DeleteFunction(t.Context(), c.app, c.function, "")
		isKind(t, err, core.KindNotFound)
		equal(t, "the message", core.AsError(err).Message, c.says)
	}
}

func nothingIsShared(t *testing.T, s *definitions) {
	n := s.ask("shop", "resize", "one")
	n.Annotations = core.Annotations{"a": json.RawMessage("1")}
	n.Spec.Env, n.Spec.Command = map[string]string{"A": "1"}, []string{"run"}
	saved := s.save(t, n)
	for _, d := range []core.Definition{{Function: core.Function{Annotations: n.Annotations}, Version: core.Version{Spec: n.Spec}}, saved} {
		d.Function.Annotations["a"][0] = '2'
		d.Function.Annotations["b"] = nil
		d.Version.Spec.Env["A"], d.Version.Spec.Command[0] = "2", "walk"
	}
	d := must(s.Version(t.Context(), "shop", "resize", 0))(t)
	equal(t, "annotations", d.Function.Annotations, core.Annotations{"a": json.RawMessage("1")})
	equal(t, "env", d.Version.Spec.Env, map[string]string{"A": "1"})
	equal(t, "command", d.Version.Spec.Command, []string{"run"})
}

func functionsAreListed(t *testing.T, s *definitions) {
	var want []string
	for _, app := range []string{"b", "a", "ö", "c"} {
		for _, i := range rand.Perm(7) {
			name := fmt.Sprintf("f%d", i)
			s.save(t, s.ask(app, name, "one"))
			want = append(want, app+"/"+name)
		}
	}
	slices.Sort(want)
	for _, app := range []string{"", "a", "c", "ö", "nowhere"} {
		for _, size := range []int{1, 3, 7, 8, 28, 100} {
			var got []string
			for page := (core.Page{Limit: size}); ; {
				list, next, err := s.Definitions(t.Context(), app, page)
				ok(t, err)
				if len(list) > size || next != "" && len(list) < size {
					t.Fatalf("a page of %d has %d functions", size, len(list))
				}
				for _, d := range list {
					got = append(got, d.App.Name+"/"+d.Function.Name)
				}
				if page.Cursor = next; next == "" {
					break
				}
			}
			expected := want
			if app != "" {
				expected = slices.DeleteFunc(slices.Clone(want), func(s string) bool { return !strings.HasPrefix(s, app+"/") })
			}
			if !slices.Equal(got, expected) {
				t.Fatalf("the app %q in pages of %d is %v, not %v", app, size, got, expected)
			}
		}
	}
}

func appsAreListed(t *testing.T, s *definitions) {
	for _, i := range rand.Perm(9) {
		s.save(t, s.ask(fmt.Sprintf("app%d", i), "f", "one"))
	}
	var got []string
	for page := (core.Page{Limit: 4}); ; {
		apps, next, err := s.Apps(t.Context(), page)
		ok(t, err)
		for _, a := range apps {
			got = append(got, a.Name)
		}
		if page.Cursor = next; next == "" {
			break
		}
	}
	equal(t, "the apps", fmt.Sprint(got), "[app0 app1 app2 app3 app4 app5 app6 app7 app8]")
}

func badDefinitionCursor(t *testing.T, s *definitions) {
	for _, cursor := range []string{"x", "%%%", core.Cursor("a"), core.Cursor("a", "b", "c")} {
		_, _, err := s.Definitions(t.Context(), "", core.Page{Cursor: cursor})
		isKind(t, err, core.KindInvalid)
	}
	_, _, err := s.Definitions(t.Context(), "one", core.Page{Cursor: core.Cursor("other", "f")})
	isKind(t, err, core.KindInvalid)
	_, _, err = s.Apps(t.Context(), core.Page{Cursor: core.Cursor("a", "b")})
	isKind(t, err, core.KindInvalid)
}

func deletedIsGone(t *testing.T, s *definitions) {
	first := s.save(t, s.ask("shop", "resize", "one"))
	s.save(t, s.ask("shop", "crop", "one"))
	ok(t, s.DeleteFunction(t.Context(), "shop", "resize", "*"))
	_, err := s.Version(t.Context(), "shop", "resize", 0)
	isKind(t, err, core.KindNotFound)
	isKind(t, s.DeleteFunction(t.Context(), "shop", "resize", ""), core.KindNotFound)
	equal(t, "the functions left", len(firstOf(s.Definitions(t.Context(), "shop", core.Page{}))(t)), 1)
	n := s.ask("shop", "resize", "one")
	n.Create = true
	second := s.save(t, n)
	if second.Function.ID == first.Function.ID || second.Version.Number != 1 || second.App.ID != first.App.ID {
		t.Fatalf("made anew it is %s", show(second))
	}
}

func changesFollow(t *testing.T, s *definitions) {
	s.save(t, s.ask("shop", "a", "one"))
	b := s.save(t, s.ask("shop", "b", "one"))
	a := s.save(t, s.ask("shop", "a", "two"))
	c := s.save(t, s.ask("shop", "c", "one"))
	ok(t, s.DeleteFunction(t.Context(), "shop", "b", ""))
	changes := must(s.Changes(t.Context(), 0, 10))(t)
	if len(changes) != 3 {
		t.Fatalf("there are %d changes: %s", len(changes), show(changes))
	}
	equal(t, "the first", changes[0], core.Change{Revision: a.Function.Revision, Definition: a})
	equal(t, "the second", changes[1], core.Change{Revision: c.Function.Revision, Definition: c})
	gone := changes[2]
	equal(t, "the deletion", gone, core.Change{Revision: gone.Revision, Deleted: true, Definition: core.Definition{
		App:      core.App{ID: b.App.ID, Name: "shop"},
		Function: core.Function{ID: b.Function.ID, AppID: b.App.ID, Name: "b"},
	}})
	if gone.Revision <= c.Function.Revision {
		t.Fatalf("the deletion has the revision %d after %d", gone.Revision, c.Function.Revision)
	}
	equal(t, "the changes after the first", must(s.Changes(t.Context(), changes[0].Revision, 1))(t), changes[1:2])
	equal(t, "the changes after the last", len(must(s.Changes(t.Context(), gone.Revision, 10))(t)), 0)
}

// changesConverge follows changes in random steps while they happen and
// compares with what a look at everything shows.
func changesConverge(t *testing.T, s *definitions) {
	seen := map[core.FunctionID]core.Definition{}
	after := int64(0)
	follow := func(limit int) int {
		changes := must(s.Changes(t.Context(), after, limit))(t)
		for _, c := range changes {
			if c.Revision <= after {
				t.Fatalf("the revision %d comes after %d", c.Revision, after)
			}
			after = c.Revision
			seen[c.Definition.Function.ID] = c.Definition
			if c.Deleted {
				delete(seen, c.Definition.Function.ID)
			}
		}
		return len(changes)
	}
	for range 200 {
		name := fmt.Sprintf("f%d", rand.IntN(10))
		switch rand.IntN(4) {
		case 0:
			if err := s.DeleteFunction(t.Context(), "shop", name, ""); err != nil {
				isKind(t, err, core.KindNotFound)
			}
		case 1:
			follow(1 + rand.IntN(4))
		default:
			s.save(t, s.ask("shop", name, fmt.Sprint(rand.IntN(3))))
		}
	}
	for follow(3) > 0 {
	}
	all := firstOf(s.Definitions(t.Context(), "", core.Page{Limit: 100}))(t)
	if len(all) != len(seen) {
		t.Fatalf("a follower knows %d functions of %d", len(seen), len(all))
	}
	for _, d := range all {
		equal(t, "a function as its follower knows it", seen[d.Function.ID], d)
	}
}

func oneWriterWins(t *testing.T, s *definitions) {
	first := s.save(t, s.ask("shop", "resize", "one"))
	const writers = 8
	errs := make([]error, writers)
	var wait sync.WaitGroup
	for i := range writers {
		wait.Go(func() {
			n := s.ask("shop", "resize", fmt.Sprint("image", i))
			n.IfMatch = first.Function.ETag()
			_, errs[i] = s.SaveVersion(context.WithoutCancel(t.Context()), n)
		})
	}
	wait.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		isKind(t, err, core.KindConflict)
	}
	equal(t, "the writers that won", won, 1)
	equal(t, "the version", must(s.Version(t.Context(), "shop", "resize", 0))(t).Version.Number, 2)
}

func versionIsPinnedOnce(t *testing.T, s *definitions) {
	n := s.ask("shop", "resize", "i:1")
	n.Digest = ""
	d := s.save(t, n)
	if d.Version.Resolved() {
		t.Fatalf("the version has the digest %q", d.Version.Digest)
	}
	before := d.Function.Revision
	for _, digest := range []string{"sha256:1", "sha256:2"} {
		if got := must(s.PinVersion(t.Context(), d.Function.ID, 1, digest))(t); got != "sha256:1" {
			t.Errorf("the version is pinned to %q, want the first", got)
		}
	}
	d = must(s.Version(t.Context(), "shop", "resize", 0))(t)
	if d.Version.Digest != "sha256:1" || d.Version.Number != 1 {
		t.Errorf("the version is %+v", d.Version)
	}
	changes := must(s.Changes(t.Context(), before, 10))(t)
	if len(changes) != 1 || changes[0].Definition.Version.Digest != "sha256:1" || changes[0].Revision != d.Function.Revision {
		t.Errorf("the changes are %s", show(changes))
	}
	_, err := s.PinVersion(t.Context(), d.Function.ID, 2, "sha256:3")
	isKind(t, err, core.KindNotFound)
	ok(t, s.DeleteFunction(t.Context(), "shop", "resize", ""))
	_, err = s.PinVersion(t.Context(), d.Function.ID, 1, "sha256:3")
	isKind(t, err, core.KindNotFound)
}

func onePinDecides(t *testing.T, s *definitions) {
	n := s.ask("shop", "resize", "i:1")
	n.Digest = ""
	d := s.save(t, n)
	got := make([]string, 8)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() {
			var err error
			if got[i], err = s.PinVersion(context.Background(), d.Function.ID, 1, fmt.Sprintf("sha256:%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	now := must(s.Version(t.Context(), "shop", "resize", 0))(t)
	for _, digest := range got {
		if digest != now.Version.Digest {
			t.Errorf("one was told %q, and it is %q", digest, now.Version.Digest)
		}
	}
}
