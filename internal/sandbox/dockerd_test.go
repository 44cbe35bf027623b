package sandbox_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/drivertest"
	"github.com/dayfly-io/dayfly/internal/sandbox"
)

// dockerd starts a Docker daemon in the network namespace of the tests and
// returns when it answers. stop ends it.
func dockerd(t *testing.T) (stop func()) {
	t.Helper()
	path, err := exec.LookPath("dockerd")
	if err != nil {
		t.Fatal("dockerd is missing: install the package docker.io")
	}
	// Its socket's path may have no more than 108 bytes.
	dir, err := os.MkdirTemp("", "dayfly-dockerd-")
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "docker.sock")
	cmd := exec.Command(path, "--host", "unix://"+socket, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--exec-opt", "native.cgroupdriver=cgroupfs", "--storage-driver", "vfs")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = cmd.Process.Signal(unix.SIGTERM)
		select {
		case <-ended:
		case <-drivertest.Context(t).Done():
			_ = cmd.Process.Kill()
			<-ended
		}
		_ = log.Close()
		unmountBelow(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove what dockerd has left: %v", err)
		}
	}
	t.Cleanup(stop)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	drivertest.Eventually(t, "dockerd answers", func() bool {
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("dockerd has ended:\n%s", text)
		default:
		}
		res, err := client.Get("http://docker/_ping")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return stop
}

// unmountBelow unmounts what a killed program has left mounted in a directory.
func unmountBelow(t testing.TB, dir string) {
	t.Helper()
	for line := range strings.Lines(hostMounts(t)) {
		if at := strings.Fields(line)[4]; strings.HasPrefix(at, dir) {
			_ = unix.Unmount(at, unix.MNT_DETACH)
		}
	}
}

func iptables(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("iptables", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("iptables %q (package iptables): %v: %s", args, err, out)
	}
	return string(out)
}

// forwarding sets the kernel's switch and gives how it was.
func forwarding(t testing.TB, to string) (was string) {
	t.Helper()
	const path = "/proc/sys/net/ipv4/ip_forward"
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(to), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// A Docker daemon sets the policy of FORWARD to DROP: what our sandboxes send
// passes all the same, whichever of the two was there first. Not parallel: its
// rules are for all of the network namespace.
func TestBesideDockerd(t *testing.T) {
	before := iptables(t, "-S", "FORWARD")
	// It sets the policy to DROP when it is the one to turn forwarding on.
	was := forwarding(t, "0")
	f := fixtureIn(t, t.TempDir())
	f.openImages(t)
	digest := f.asUser(t, "")
	reaches := func(when string, f *fixture) {
		t.Helper()
		spec := drivertest.Spec(digest, "dial", world.Outside)
		spec.Network = core.NetworkEgress
		got := map[string]string{}
		drivertest.Start(t, f.driver, spec, nil).JSON(&got)
		if got[world.Outside] != "mayfly" {
			t.Errorf("%s an instance is answered %q; the rules are\n%s", when, got, iptables(t, "-S", "FORWARD"))
		}
	}
	stop := dockerd(t)
	rules := iptables(t, "-S", "FORWARD")
	if !strings.Contains(rules, "-P FORWARD DROP") {
		t.Fatalf("dockerd has not set FORWARD to DROP:\n%s", rules)
	}
	f.driver = f.openDriver(t, sandbox.Options{})
	drivertest.Eventually(t, "our rules are there", func() bool {
		return strings.Contains(iptables(t, "-S", "FORWARD"), "df-"+sandbox.ShortName(f.sandboxDir()))
	})
	reaches("after dockerd", f)
	stop()
	stop = dockerd(t)
	reaches("before dockerd", f)
	closeDriver(t, f.driver)
	if now := iptables(t, "-S"); strings.Contains(now, "df-") {
		t.Errorf("after Close our rules are still there:\n%s", now)
	}
	if now := iptables(t, "-S", "FORWARD"); !strings.Contains(now, "-P FORWARD DROP") || !strings.Contains(now, "DOCKER-USER") {
		t.Errorf("Close has taken dockerd's rules away:\n%s", now)
	}
	stop()
	forwarding(t, was)
	for _, args := range []string{"-P FORWARD ACCEPT", "-F", "-X", "-t nat -F", "-t nat -X"} {
		iptables(t, strings.Fields(args)...)
	}
	if now := iptables(t, "-S", "FORWARD"); now != before {
		t.Errorf("FORWARD was\n%s\nand is\n%s", before, fmt.Sprint(now))
	}
}
