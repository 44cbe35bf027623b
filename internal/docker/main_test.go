package docker_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/drivertest"
)

// apart tells a child of the test binary that it is in namespaces of its own.
const apart = "DAYFLY_DOCKER_TEST"

// TestMain runs the tests in a child process with network and mount namespaces
// of its own: what they do to networks and mounts, and what a defect would do,
// stays in there.
func TestMain(m *testing.M) {
	if os.Getenv(apart) == "" {
		os.Exit(runApart())
	}
	if err := drivertest.MakeWorld(); err != nil {
		fmt.Fprintln(os.Stderr, "make the network of the tests:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func runApart() int {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "docker tests run containers: run them as root")
		return 1
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Env = append(os.Environ(), apart+"=tests")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	if err := child.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "docker tests:", err)
		return 1
	}
	return 0
}
