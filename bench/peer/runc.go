package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Runc starts the program by the command runc run, with namespaces, limits
// and the system call filter that a function gets: no capabilities, Docker's
// default filter, a read-only root, 128 MiB, one processor, 256 processes.
type Runc struct {
	program string // runc
	root    string // its state
	bundle  string
	env     []string
	n       int
	// Version is what runc says of itself.
	Version string
}

// NewRunc makes the bundle in dir. env has the PATH by which runc is found.
func NewRunc(dir, program string, env []string) (*Runc, error) {
	path, err := lookPath("runc", env)
	if err != nil {
		return nil, err
	}
	r := &Runc{program: path, root: filepath.Join(dir, "runc"), bundle: filepath.Join(dir, "bundle"), env: env}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("ask for the version of runc: %w", err)
	}
	r.Version, _, _ = strings.Cut(string(out), "\n")
	if err := os.MkdirAll(filepath.Join(r.bundle, "rootfs"), 0o755); err != nil {
		return nil, fmt.Errorf("make the bundle: %w", err)
	}
	for _, d := range []string{"proc", "dev", "sys", "tmp"} {
		if err := os.Mkdir(filepath.Join(r.bundle, "rootfs", d), 0o755); err != nil {
			return nil, fmt.Errorf("make the bundle: %w", err)
		}
	}
	b, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(filepath.Join(r.bundle, "rootfs", "app"), b, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("put the program into the bundle: %w", err)
	}
	config, err := spec()
	if err != nil {
		return nil, err
	}
	if b, err = json.Marshal(config); err == nil {
		err = os.WriteFile(filepath.Join(r.bundle, "config.json"), b, 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("configure the bundle: %w", err)
	}
	return r, nil
}

// spec describes the container, by the OCI runtime specification.
func spec() (*specs.Spec, error) {
	memory, pids, quota, period := int64(128<<20), int64(256), int64(100_000), uint64(100_000)
	s := &specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{
			Args: []string{"/app"}, Cwd: "/", Env: []string{"PATH=/", "PORT=" + strconv.Itoa(port)},
			User: specs.User{UID: 65534, GID: 65534}, NoNewPrivileges: true, Capabilities: &specs.LinuxCapabilities{},
		},
		Root: &specs.Root{Path: "rootfs", Readonly: true},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=1777", "size=65536k"}},
		},
		Linux: &specs.Linux{
			Resources: &specs.LinuxResources{
				Memory: &specs.LinuxMemory{Limit: &memory}, Pids: &specs.LinuxPids{Limit: pids},
				CPU: &specs.LinuxCPU{Quota: &quota, Period: &period},
			},
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace},
				{Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.CgroupNamespace},
			},
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	filter, err := seccomp.GetDefaultProfile(s)
	if err != nil {
		return nil, fmt.Errorf("make the system call filter: %w", err)
	}
	s.Linux.Seccomp = filter
	return s, nil
}

// Name names the engine.
func (*Runc) Name() string { return "runc run" }

// Close does nothing: each cycle takes down what it made.
func (*Runc) Close() error { return nil }

// Cycle runs a container, asks the program and deletes the container.
func (r *Runc) Cycle(ctx context.Context) (t Timing, err error) {
	r.n++
	id := fmt.Sprintf("dayfly-bench-%d-%d", os.Getpid(), r.n)
	pidFile := filepath.Join(r.bundle, "pid")
	began := time.Now()
	if err := r.run("run", "-d", "--bundle", r.bundle, "--pid-file", pidFile, id); err != nil {
		return t, err
	}
	t.Start = time.Since(began)
	b, err := os.ReadFile(pidFile)
	pid := 0
	if err == nil {
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if err == nil {
		err = ask(ctx, dialInside(pid))
	}
	t.FirstByte = time.Since(began)
	ending := time.Now()
	err = errors.Join(err, r.run("delete", "-f", id))
	t.Teardown = time.Since(ending)
	return t, err
}

func (r *Runc) run(args ...string) error {
	// Output goes to no pipe: the container keeps what it is given.
	cmd := exec.Command(r.program, append([]string{"--root", r.root}, args...)...)
	cmd.Env = r.env
	said, err := os.CreateTemp(filepath.Dir(r.root), "runc-said-")
	if err != nil {
		return fmt.Errorf("run runc: %w", err)
	}
	defer func() { _, _ = said.Close(), os.Remove(said.Name()) }() // it has been read
	cmd.Stderr = said
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(said.Name()) // nothing says as little
		return fmt.Errorf("runc %s: %w: %.500s", args[0], err, text)
	}
	return nil
}

// lookPath finds a program in the PATH of an environment.
func lookPath(program string, env []string) (string, error) {
	for _, e := range env {
		path, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(path) {
			at := filepath.Join(dir, program)
			if info, err := os.Stat(at); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return at, nil
			}
		}
	}
	return "", fmt.Errorf("%s is not installed", program)
}
