package docker_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/docker"
	"github.com/dayfly-io/dayfly/internal/drivertest"
)

// TestEngine runs everything that needs a Docker engine on one that it starts:
// two of them in one network namespace would be in each other's way.
//
//nolint:paralleltest // the drivers' own tests are; these take turns on the engine
func TestEngine(t *testing.T) {
	host, _ := drivertest.Dockerd(t)
	t.Run("on this machine", func(t *testing.T) {
		drivertest.Run(t, func(t *testing.T) drivertest.Harness {
			d := open(t, host)
			return drivertest.Harness{Driver: d, Can: d.Capabilities(), Sockets: d, World: drivertest.Surroundings, Load: load(d)}
		})
	})
	for name, test := range map[string]func(*testing.T, string){
		"Close leaves nothing":                       closesWithoutTrace,
		"Open leaves alone what is others'":          sweepsOnlyItsOwn,
		"Open removes what a former server has left": sweepsWhatIsLeft,
		"the engine is told no secrets":              hidesSecrets,
		"escapes are refused":                        refusesEscapes,
		"images are pulled, pinned and removed":      pulls,
	} {
		t.Run(name, func(t *testing.T) { test(t, host) })
	}
	t.Run("elsewhere", func(t *testing.T) {
		drivertest.Run(t, func(t *testing.T) drivertest.Harness {
			d := open(t, far(t, host))
			except := map[string]string{}
			for _, m := range d.Capabilities().Missing {
				if m.Name == "isolation" {
					except["egress reaches neither host nor metadata"] = m.Why
				}
			}
			return drivertest.Harness{Driver: d, Can: d.Capabilities(), World: drivertest.Surroundings, Load: load(d), Except: except}
		})
	})
}

func open(t testing.TB, host string) *docker.Driver {
	t.Helper()
	return openIn(t, host, t.TempDir())
}

func openIn(t testing.TB, host, dir string) *docker.Driver {
	t.Helper()
	d, err := docker.Open(t.Context(), docker.Options{Dir: dir, Host: host, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeDriver(t, d) })
	return d
}

func closeDriver(t testing.TB, d *docker.Driver) {
	t.Helper()
	if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Errorf("close: %v", err)
	}
}

func load(d *docker.Driver) func(testing.TB, io.Reader) string {
	return func(t testing.TB, tar io.Reader) string {
		t.Helper()
		images, err := d.Images(nil).Load(t.Context(), tar)
		if err != nil {
			t.Fatal(err)
		}
		return images[0].Digest
	}
}

// far gives another way to the engine, by which it is not seen to be on this
// machine.
func far(t testing.TB, host string) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go forward(c, strings.TrimPrefix(host, "unix://"))
		}
	}()
	return "tcp://" + l.Addr().String()
}

func forward(c net.Conn, to string) {
	defer func() { _ = c.Close() }()
	out, err := net.Dial("unix", to)
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(out, c)
		_ = out.(*net.UnixConn).CloseWrite()
	}()
	_, _ = io.Copy(c, out)
	_ = out.Close()
}
