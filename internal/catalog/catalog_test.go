package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-io/dayfly/internal/catalog"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/memory"
)

var quiet = slog.New(slog.DiscardHandler)

func save(t *testing.T, s *memory.Store, id int, name, digest string) {
	t.Helper()
	_, err := s.SaveVersion(t.Context(), core.NewVersion{
		App: "shop", Function: name, AppID: 1, FunctionID: core.FunctionID(id), Digest: digest, Spec: core.Spec{Image: "i"}.WithDefaults(),
	})
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, s *memory.Store, name string) {
	t.Helper()
	if err := s.DeleteFunction(t.Context(), "shop", name, ""); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, s catalog.Store) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Open(t.Context(), s, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// found fails unless the catalog has the function with the digest, "" for
// not.
func found(t *testing.T, c *catalog.Catalog, name, digest string) {
	t.Helper()
	def, err := c.Find("shop", name)
	switch {
	case digest == "":
		if !core.IsKind(err, core.KindNotFound) || !strings.Contains(err.Error(), "no function \""+name+"\"") {
			t.Errorf("%s: got %v, %v", name, def, err)
		}
	case err != nil || def.Version.Digest != digest || def.Function.Name != name:
		t.Errorf("%s: got %+v, %v; want the image %s", name, def, err, digest)
	}
}

func TestFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		save(t, s, 1, "old", "a")
		c := open(t, s)
		defer c.Close()
		found(t, c, "old", "a")
		found(t, c, "new", "")
		if _, err := c.Find("other", "old"); !core.IsKind(err, core.KindNotFound) || !strings.Contains(err.Error(), `no app "other"`) {
			t.Errorf("got %v", err)
		}
		save(t, s, 2, "new", "b")
		save(t, s, 1, "old", "c")
		found(t, c, "new", "")
		time.Sleep(time.Second) // of the bubble: the polling interval
		synctest.Wait()
		found(t, c, "new", "b")
		found(t, c, "old", "c")
		remove(t, s, "old")
		if err := c.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		found(t, c, "old", "")
	})
}

// A function that is deleted and made anew under its name between two looks.
func TestMadeAnew(t *testing.T) {
	t.Parallel()
	s := memory.New()
	save(t, s, 1, "f", "a")
	c := open(t, s)
	defer c.Close()
	var seen []string
	c.Watch(func(change core.Change) {
		seen = append(seen, fmt.Sprint(int64(change.Definition.Function.ID), change.Deleted))
	})
	remove(t, s, "f")
	save(t, s, 2, "f", "b")
	remove(t, s, "f")
	save(t, s, 3, "f", "c")
	save(t, s, 4, "gone", "d")
	remove(t, s, "gone")
	for range 2 { // the second time brings nothing
		if err := c.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	found(t, c, "f", "c")
	found(t, c, "gone", "")
	if got, want := strings.Join(seen, ", "), "1 false, 1 true, 2 true, 3 false, 4 true"; got != want {
		t.Errorf("the changes seen are %s, want %s", got, want)
	}
	if def, err := c.Find("shop", "f"); err != nil || def.Function.ID != 3 {
		t.Errorf("got %+v, %v", def, err)
	}
}

// A deletion that is told after the name has been taken again hurts nobody.
func TestLateDeletion(t *testing.T) {
	t.Parallel()
	change := func(revision int64, id core.FunctionID, deleted bool) core.Change {
		return core.Change{Revision: revision, Deleted: deleted, Definition: core.Definition{
			App: core.App{Name: "shop"}, Function: core.Function{ID: id, Name: "f"}, Version: core.Version{Digest: fmt.Sprint(int64(id))},
		}}
	}
	c := open(t, feed{change(1, 1, false), change(2, 2, false), change(3, 1, true)})
	defer c.Close()
	found(t, c, "f", "2")
}

type feed []core.Change

func (f feed) Changes(_ context.Context, after int64, limit int) ([]core.Change, error) {
	var out []core.Change
	for _, c := range f {
		if c.Revision > after && len(out) < limit {
			out = append(out, c)
		}
	}
	return out, nil
}

// flaky is a store that fails for a while.
type flaky struct {
	*memory.Store
	mu    sync.Mutex
	fails error
}

func (f *flaky) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = err
}

func (f *flaky) Changes(ctx context.Context, after int64, limit int) ([]core.Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails != nil {
		return nil, f.fails
	}
	return f.Store.Changes(ctx, after, limit)
}

func TestFailingStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		s := &flaky{Store: memory.New(), fails: boom}
		if _, err := catalog.Open(t.Context(), s, quiet); !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
		s.fail(nil)
		save(t, s.Store, 1, "f", "a")
		c := open(t, s)
		defer c.Close()
		s.fail(boom)
		save(t, s.Store, 1, "f", "b")
		time.Sleep(3 * time.Second) // of the bubble
		synctest.Wait()
		found(t, c, "f", "a")
		if err := c.Refresh(t.Context()); !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
		s.fail(nil)
		time.Sleep(time.Second) // of the bubble
		synctest.Wait()
		found(t, c, "f", "b")
	})
}

func TestManyFunctions(t *testing.T) {
	t.Parallel()
	const n = 100_000
	changes := make(feed, n)
	for i := range changes {
		changes[i] = core.Change{Revision: int64(i + 1), Definition: core.Definition{
			App:      core.App{Name: fmt.Sprint("app", i%100)},
			Function: core.Function{ID: core.FunctionID(i + 1), Name: fmt.Sprint("f", i)}, Version: core.Version{Number: i + 1},
		}}
	}
	began := time.Now()
	c := open(t, sorted(changes))
	t.Logf("%d definitions were loaded in %s", n, time.Since(began))
	defer c.Close()
	for i := 0; i < n; i += 97 {
		def, err := c.Find(fmt.Sprint("app", i%100), fmt.Sprint("f", i))
		if err != nil || def.Version.Number != i+1 {
			t.Fatalf("function %d: got %+v, %v", i, def, err)
		}
	}
}

// sorted is a feed whose revisions count up from 1.
type sorted []core.Change

func (s sorted) Changes(_ context.Context, after int64, limit int) ([]core.Change, error) {
	from := min(int(after), len(s))
	return s[from:min(from+limit, len(s))], nil
}

// Finding goes on while changes are taken over.
func TestFindDuringRefresh(t *testing.T) {
	t.Parallel()
	s := memory.New()
	save(t, s, 1, "f", "0")
	c := open(t, s)
	defer c.Close()
	stop, turn := make(chan struct{}), make(chan struct{})
	var finders sync.WaitGroup
	for range 4 {
		finders.Go(func() {
			for last := 0; ; {
				select {
				case <-stop:
					return
				case <-turn:
				}
				def, err := c.Find("shop", "f")
				if err != nil || def.Version.Number < last {
					t.Errorf("got %+v, %v after version %d", def, err, last)
					return
				}
				last = def.Version.Number
			}
		})
	}
	for i := range 200 {
		turn <- struct{}{}
		save(t, s, 1, "f", fmt.Sprint(i))
		turn <- struct{}{}
		if err := c.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	finders.Wait()
}
