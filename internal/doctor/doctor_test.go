package doctor_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/cli"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/doctor"
	"github.com/dayfly-io/dayfly/internal/sandbox/userns"
)

var update = flag.Bool("update", false, "write the golden files anew")

// good are the facts of a server's machine, with root.
func good() doctor.Facts {
	return doctor.Facts{
		Kernel: [2]int{6, 1}, Arch: "amd64", Forwarding: true, Listen: "127.0.0.1:8080", Files: 524288, Synced: true,
		User:   doctor.User{Root: true, IDs: 1<<32 - 1, Limits: userns.Limits{Max: "96365"}},
		Tried:  map[doctor.Trial]string{},
		Cgroup: doctor.Cgroup{Unified: true, Controllers: []string{"memory", "cpu", "pids"}, Swap: true},
		Data:   doctor.Directory{Path: "/var/lib/dayfly", Type: "ext4", Free: 70 * core.GiB},
		Now:    time.Date(2026, 11, 25, 1, 2, 3, 0, time.UTC), NoDocker: "there is no Docker engine at unix:///var/run/docker.sock that answers",
	}
}

// plain are those of a plain user's machine.
func plain() doctor.Facts {
	f := good()
	f.User = doctor.User{IDs: 65537, Limits: userns.Limits{Max: "96365"}}
	return f
}

var machines = map[string]func() doctor.Facts{
	"root":  good,
	"plain": plain,
	"plain-poor": func() doctor.Facts {
		f := plain()
		f.User.IDs, f.User.Lack, f.User.Remedy = 1, "newuidmap and newgidmap are not installed", "install them (the package uidmap)"
		f.Cgroup = doctor.Cgroup{Unified: true, Legacy: true, Lack: "the machine has its controllers in cgroup version 1", Remedy: "boot with version 2"}
		f.Uplink, f.Forwarding, f.Synced = "pasta is not installed", false, false
		f.Tried[doctor.TrialNft] = "operation not supported"
		f.Data.Free, f.Files = 300*core.MiB, 1024
		return f
	},
	"refused": func() doctor.Facts {
		f := plain()
		f.User = doctor.User{IDs: 1<<32 - 1, Limits: userns.Limits{Max: "96365", AppArmor: "1"}, Refused: "operation not permitted"}
		return f
	},
	"refused-docker": func() doctor.Facts {
		f := plain()
		f.User = doctor.User{IDs: 1<<32 - 1, Limits: userns.Limits{Max: "96365", Clone: "0"}, Refused: "operation not permitted"}
		f.Docker, f.NoDocker = "1.52", ""
		return f
	},
	"container": func() doctor.Facts {
		f := good()
		f.User.Missing = "CAP_SYS_ADMIN (to make namespaces and mounts)"
		f.Cgroup, f.Data.Type = doctor.Cgroup{Lack: "the kernel has no such controllers", Remedy: "enable them"}, "overlayfs"
		for _, t := range []doctor.Trial{doctor.TrialOverlay, doctor.TrialBridge, doctor.TrialVeth, doctor.TrialNft, doctor.TrialSeccomp} {
			f.Tried[t] = "operation not permitted"
		}
		return f
	},
	"old": func() doctor.Facts {
		f := good()
		f.Kernel, f.Arch = [2]int{5, 10}, "amd64"
		return f
	},
	"taken": func() doctor.Facts {
		f := good()
		f.InUse, f.Data.Denied = "listen tcp 127.0.0.1:8080: bind: address already in use", "permission denied"
		f.Now = time.Date(1970, 1, 1, 0, 0, 9, 0, time.UTC)
		return f
	},
}

func TestReports(t *testing.T) {
	t.Parallel()
	for name, facts := range machines {
		for _, form := range []string{"txt", "json"} {
			t.Run(name+"."+form, func(t *testing.T) {
				t.Parallel()
				args := []string{"doctor"}
				if form == "json" {
					args = append(args, "--json")
				}
				out, code := run(t, func(context.Context, doctor.Options) (doctor.Facts, error) { return facts(), nil }, args...)
				golden(t, filepath.Join("testdata", name+"."+form), out)
				if fit := doctor.Judge(facts()).Fit(); fit != (code == 0) || !fit && code != 1 {
					t.Errorf("the exit code is %d, and a server runs: %t", code, fit)
				}
			})
		}
	}
}

// run runs the command with a stand-in for the machine.
func run(t *testing.T, look func(context.Context, doctor.Options) (doctor.Facts, error), args ...string) (out string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = cli.Main(t.Context(), cli.Program{Args: args, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr},
		doctor.Command(doctor.Options{Data: "dayfly-data", Listen: "127.0.0.1:8080"}, look))
	if code != 0 && stderr.Len() == 0 {
		t.Error("it fails without a word")
	}
	return stdout.String(), code
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: it says\n%s\nwant\n%s", path, got, want)
	}
}

func TestTheDoctorIsToldWhichServer(t *testing.T) {
	t.Parallel()
	var asked doctor.Options
	_, code := run(t, func(_ context.Context, o doctor.Options) (doctor.Facts, error) {
		asked = o
		return doctor.Facts{}, errors.New("the machine is gone")
	}, "doctor", "--data", "/d", "--listen", "127.0.0.1:1", "--docker-host", "unix:///s")
	if asked.Data != "/d" || asked.Listen != "127.0.0.1:1" || asked.DockerHost != "unix:///s" || code != 1 {
		t.Errorf("it was asked for %+v, and the exit code is %d", asked, code)
	}
}

// Every finding that is not as it could be says what to do.
func TestFindingsHaveRemedies(t *testing.T) {
	t.Parallel()
	names := map[string]int{}
	for machine, facts := range machines {
		for _, f := range doctor.Judge(facts()).Findings {
			names[f.Name]++
			if (f.Verdict == doctor.Less || f.Verdict == doctor.No) && f.Remedy == "" || f.Found == "" {
				t.Errorf("%s: %+v says nothing, or not what to do", machine, f)
			}
		}
	}
	for name, n := range names {
		if n != len(machines) {
			t.Errorf("%s is told of %d machines of %d", name, n, len(machines))
		}
	}
}

// What is looked at on this machine, whichever it is, is judged, and nothing is
// left of the look.
func TestLook(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	facts, err := doctor.Look(t.Context(), doctor.Options{Data: filepath.Join(tmp, "not", "there"), Listen: "127.0.0.1:0", Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if facts.Kernel[0] < 5 || facts.Data.Free <= 0 || facts.Files == 0 || facts.Now.IsZero() {
		t.Errorf("it found %+v", facts)
	}
	if _, err := io.WriteString(t.Output(), doctor.Judge(facts).String()); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("it left %v (%v)", left, err)
	}
}
