package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The tests run as the third of three processes of the same program: the one
// that go test starts builds what is tested; the first process of the fresh
// namespaces brings the loopback interface up and buries orphans, as an init
// does; the tests are its child.
const (
	stageVariable = "DAYFLY_E2E_STAGE"
	stageInit     = "init"
	stageTests    = "tests"
	// worldVariable names the directory with what was built.
	worldVariable = "DAYFLY_E2E_WORLD"
)

func TestMain(m *testing.M) {
	switch os.Getenv(stageVariable) {
	case stageTests:
		code := m.Run()
		if err := shared.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: the server that the tests share:", err)
			code = 1
		}
		os.Exit(code)
	case stageInit:
		code, err := runInit()
		if err != nil {
			fmt.Fprintln(os.Stderr, "e2e: set up the namespaces of the tests:", err)
		}
		os.Exit(code)
	}
	code, err := runOutside()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	}
	os.Exit(code)
}

// needs are the programs that the tests run, and the Debian packages that
// have them.
var needs = map[string]string{
	"apt-get": "apt", "dpkg-deb": "dpkg", "npm": "npm", "pip3": "python3-pip", // for functions of the Fn Project
	"go": "golang-go", "nft": "nftables", "iptables-save": "iptables", "setpriv": "util-linux",
	"docker-registry": "docker-registry",
	"pasta":           "passt", "newuidmap": "uidmap",
	"dockerd": "docker.io",
}

// runOutside builds what is tested and runs the tests in fresh namespaces.
func runOutside() (code int, err error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("these tests run real containers: run them as root")
	}
	for program, debian := range needs {
		if _, err := exec.LookPath(program); err != nil {
			return 1, fmt.Errorf("the program %s is missing: install the package %s", program, debian)
		}
	}
	world, err := os.MkdirTemp("", "dayfly-e2e-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(world)) }()
	// Others than root look into it: a server that runs as nobody.
	if err := os.Chmod(world, 0o755); err != nil {
		return 1, err
	}
	// As the Makefile builds it, so that it is built once.
	for pkg, name := range map[string]string{"../../cmd/dayfly": "dayfly", "./testdata/misbehave": "misbehave", "./testdata/kit": "kit"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(world, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	if err := buildKits(world); err != nil {
		return 1, err
	}
	return runStage(stageInit, world, syscall.CLONE_NEWNS|syscall.CLONE_NEWNET|syscall.CLONE_NEWPID)
}

// buildKits makes functions with the kits of the Fn Project, and the images
// that they stand on; or finds them made.
func buildKits(world string) error {
	for _, script := range [][]string{{"../kits/build.sh", "kits"}, {"../base-images.sh", "node", "python"}} {
		cmd := exec.Command(script[0], script[1:]...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%s: %w", script[0], err)
		}
		for i, dir := range strings.Fields(string(out)) {
			if err := os.Symlink(dir, filepath.Join(world, script[1+i])); err != nil {
				return err
			}
		}
	}
	return nil
}

// runStage runs this program again and gives its exit code.
func runStage(stage, world string, namespaces uintptr) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	// The kernel ends the stage with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The go tool keeps the result of tests that write this file, until what
	// they import changes; what is tested here is not imported.
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool {
		return strings.HasPrefix(arg, "-test.testlogfile=")
	})
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), stageVariable+"="+stage, worldVariable+"="+world)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, fmt.Errorf("run the tests in namespaces of their own: %w", err)
	}
	return 0, nil
}

// runInit is the first process in the namespaces: it makes them fit to live
// in, runs the tests and waits for whatever else ends.
func runInit() (int, error) {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return 1, fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return 1, fmt.Errorf("mount /proc: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return 1, fmt.Errorf("bring the loopback interface up: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	if err := os.Setenv(stageVariable, stageTests); err != nil {
		return 1, err
	}
	// Not os/exec: what it waits for, the loop below would take away.
	tests, err := syscall.ForkExec(self, os.Args, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
	})
	if err != nil {
		return 1, fmt.Errorf("start the tests: %w", err)
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 1, fmt.Errorf("wait for the tests: %w", err)
		case pid == tests && status.Signaled():
			return 1, fmt.Errorf("the tests were ended by signal %d", status.Signal())
		case pid == tests && status.Exited():
			return status.ExitStatus(), nil
		}
	}
}

// built gives the path of a program that was built for the tests.
func built(name string) string { return filepath.Join(os.Getenv(worldVariable), name) }
