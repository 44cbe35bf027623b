package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Catalog holds definitions.
type Catalog struct {
	store Store
	log   *slog.Logger
	apps  sync.Map // app name to *sync.Map of function name to *core.Definition

	mu       sync.Mutex
	revision int64
	watchers []func(core.Change)
	names    map[core.FunctionID][2]string // app and name, to find what was deleted

	stop func()
	done sync.WaitGroup
}

// Open reads all definitions and follows their changes until Close.
func Open(ctx context.Context, s Store, log *slog.Logger) (*Catalog, error) {
	c := &Catalog{store: s, log: log, names: map[core.FunctionID][2]string{}}
	if err := c.Refresh(ctx); err != nil {
		return nil, err
	}
	ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	c.done.Go(func() { c.follow(ctx) })
	return c, nil
}

// Close ends the following.
func (c *Catalog) Close() {
	c.stop()
	c.done.Wait()
}

// pollEvery is how often the store is asked for changes that others made.
const pollEvery = time.Second

func (c *Catalog) follow(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := c.Refresh(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			c.log.Error("following the changes of functions did not work; trying again", slog.Any("error", err))
		case err == nil && failing:
			c.log.Info("the changes of functions are followed again")
		}
		failing = err != nil
	}
}

// Watch has f told of every definition there is, then of every change, in
// order. f must not refresh the catalog; it may look things up, and finds a
// change that it is told of.
func (c *Catalog) Watch(f func(core.Change)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, functions := range c.apps.Range {
		for _, d := range functions.(*sync.Map).Range { //nolint:errcheck,forcetypeassert // nothing else is in it
			f(core.Change{Definition: *d.(*core.Definition)}) //nolint:errcheck,forcetypeassert // nothing else is in it
		}
	}
	c.watchers = append(c.watchers, f)
}

// page is how many changes are read at once.
const page = 5000

// Refresh takes over what has changed since the last time.
func (c *Catalog) Refresh(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		changes, err := c.store.Changes(ctx, c.revision, page)
		if err != nil {
			return fmt.Errorf("read changes of functions after revision %d: %w", c.revision, err)
		}
		for _, change := range changes {
			c.apply(change)
			for _, f := range c.watchers {
				f(change)
			}
		}
		if len(changes) < page {
			return nil
		}
	}
}

func (c *Catalog) apply(change core.Change) {
	def := change.Definition
	c.revision = max(c.revision, change.Revision)
	name := [2]string{def.App.Name, def.Function.Name}
	if change.Deleted {
		if old, ok := c.names[def.Function.ID]; ok {
			name = old
			delete(c.names, def.Function.ID)
		}
		functions := c.functions(name[0])
		// A function made anew under the name may have come first.
		if v, ok := functions.Load(name[1]); ok && v.(*core.Definition).Function.ID == def.Function.ID { //nolint:errcheck,forcetypeassert // nothing else is in it
			functions.Delete(name[1])
		}
		return
	}
	c.names[def.Function.ID] = name
	c.functions(name[0]).Store(name[1], &def)
}

func (c *Catalog) functions(app string) *sync.Map {
	if v, ok := c.apps.Load(app); ok {
		return v.(*sync.Map) //nolint:errcheck,forcetypeassert // nothing else is in it
	}
	v, _ := c.apps.LoadOrStore(app, new(sync.Map))
	return v.(*sync.Map) //nolint:errcheck,forcetypeassert // nothing else is in it
}

// Find gives the version of a function that is called; core.KindNotFound says
// whether the app or the function is missing. What it gives may not be
// changed.
func (c *Catalog) Find(app, function string) (*core.Definition, error) {
	v, ok := c.apps.Load(app)
	if !ok {
		return nil, core.NotFound("there is no app %q", app)
	}
	d, ok := v.(*sync.Map).Load(function) //nolint:errcheck,forcetypeassert // nothing else is in it
	if !ok {
		return nil, core.NotFound("there is no function %q in the app %q", function, app)
	}
	return d.(*core.Definition), nil //nolint:errcheck,forcetypeassert // nothing else is in it
}
