package sandbox_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/drivertest"
	"github.com/dayfly-io/dayfly/internal/image"
	"github.com/dayfly-io/dayfly/internal/sandbox"
)

func TestDriver(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		f := fixtureIn(t, t.TempDir())
		f.openImages(t)
		var allowed []core.HostDirectory
		if _, plain := plainly(); !plain {
			allowed = drivertest.Directories(t, f.dir)
		}
		f.driver = f.openDriver(t, sandbox.Options{Directories: allowed})
		return drivertest.Harness{Driver: f.driver, Peaks: f.driver, Can: f.driver.Capabilities(), Sockets: f.driver, World: drivertest.Surroundings, Load: f.load}
	})
}

// fixture is a driver with its store of images.
type fixture struct {
	dir    string
	images *image.Store
	driver *sandbox.Driver
}

// newFixture opens a driver that the test's end closes.
func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := fixtureIn(t, t.TempDir())
	f.open(t)
	return f
}

// fixtureIn makes a fixture without anything open. What a test that fails
// leaves running in it ends with the test.
func fixtureIn(t testing.TB, dir string) *fixture {
	t.Helper()
	f := &fixture{dir: dir}
	t.Cleanup(func() {
		for _, root := range cgroupRoots(t) {
			group := filepath.Join(root, "dayfly", sandbox.ShortName(f.sandboxDir()))
			_ = os.WriteFile(filepath.Join(group, "cgroup.kill"), []byte("1"), 0)
		}
	})
	return f
}

func (f *fixture) open(t testing.TB) {
	t.Helper()
	f.openImages(t)
	f.driver = f.openDriver(t, sandbox.Options{})
}

func (f *fixture) openImages(t testing.TB) {
	t.Helper()
	owners, err := sandbox.Owners()
	if err != nil {
		t.Fatal(err)
	}
	images, err := image.Open(t.Context(), filepath.Join(f.dir, "images"), image.Options{Owners: owners})
	if err != nil {
		t.Fatal(err)
	}
	f.images = images
	t.Cleanup(func() { f.closeImages(t) })
}

// closeImages closes the store, unless that has been done.
func (f *fixture) closeImages(t testing.TB) {
	t.Helper()
	if f.images == nil {
		return
	}
	if err := f.images.Close(); err != nil {
		t.Error(err)
	}
	f.images = nil
}

func (f *fixture) openDriver(t testing.TB, o sandbox.Options) *sandbox.Driver {
	t.Helper()
	o.Dir, o.Images = filepath.Join(f.dir, "sandbox"), f.images
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	d, err := sandbox.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeDriver(t, d) })
	return d
}

func closeDriver(t testing.TB, d *sandbox.Driver) {
	t.Helper()
	if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Errorf("close: %v", err)
	}
}

func (f *fixture) load(t testing.TB, tar io.Reader) string {
	t.Helper()
	images, err := f.images.Load(t.Context(), tar)
	if err != nil {
		t.Fatal(err)
	}
	return images[0].Digest
}
