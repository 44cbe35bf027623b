package network_test

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// apart tells the child that it runs in a network namespace of its own.
const apart = "DAYFLY_NETWORK_TEST_APART"

// TestMain runs the tests in a child process with an empty network namespace: each test works in namespaces it makes,
// and one that forgot to would still change nothing of this machine.
func TestMain(m *testing.M) {
	if os.Getenv(apart) != "" {
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "network tests make network namespaces: run them as root")
		os.Exit(1)
	}
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Env = append(os.Environ(), apart+"=1")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := child.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "network tests:", err)
		os.Exit(1)
	}
}
