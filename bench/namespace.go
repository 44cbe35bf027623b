package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// insideEnv is set in the process that is in namespaces of its own.
const insideEnv = "DAYFLY_BENCH_INSIDE"

// enter runs the program again in network and mount namespaces of its own, so
// that what is measured changes nothing of the machine's network, and reports
// whether this is that second process. The first one returns when the second
// has ended, with its error.
func enter(ctx context.Context) (inside bool, err error) {
	if os.Getenv(insideEnv) != "" {
		return true, loopbackUp()
	}
	if os.Geteuid() != 0 {
		return false, errors.New("the sandbox driver needs root: run it as root")
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Go makes the mounts private with CLONE_NEWNS.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Minute
	if err := cmd.Run(); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
			os.Exit(exit.ExitCode()) // it has said why
		}
		return false, fmt.Errorf("run in namespaces of its own: %w", err)
	}
	return false, nil
}

// loopbackUp sets the loopback link up, which is down in a new namespace
// (netdevice(7)).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set the loopback up: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // nothing is pending
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("set the loopback up: %w", err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("set the loopback up: %w", err)
	}
	return nil
}
