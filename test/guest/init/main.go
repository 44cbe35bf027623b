// Command init is the first process of the tests' guest: a virtual machine in
// which cgroup version 2 has all the controllers.
//
// It starts twice. From the initramfs that package pack writes it loads the
// modules beside it, mounts the disk as root and starts again from there,
// since nothing can pivot away from an initramfs, as sandboxes do. Then it
// mounts what a machine has, runs the program that /command names, a line an
// argument, on the second serial port, writes "exit CODE" on the third one,
// and switches the machine off.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: this is the first process of the tests' guest; see test/guest.sh")
		os.Exit(2)
	}
	err := begin()
	fmt.Println("init:", err) // the kernel's console
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// begin does not return but to tell of an error, or that all is done.
func begin() error {
	if os.Args[len(os.Args)-1] != "run" { // the kernel passes on what it does not know
		return enterDisk()
	}
	if err := mountAll(); err != nil {
		return err
	}
	code, err := run()
	if err != nil {
		return err
	}
	unix.Sync()
	result, err := port("/dev/ttyS2")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(result, "exit %d\n", code); err != nil {
		return fmt.Errorf("tell how the tests ended: %w", err)
	}
	// What is still in the serial port is lost with the machine.
	if err := unix.IoctlSetInt(int(result.Fd()), unix.TCSBRK, 1); err != nil {
		return fmt.Errorf("drain the serial port: %w", err)
	}
	return errors.New("the tests are done")
}

// enterDisk loads the modules, and goes on with this program on the disk.
func enterDisk() error {
	list, err := os.ReadFile("/modules/order")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(list)) {
		image, err := os.ReadFile("/modules/" + name)
		if err != nil {
			return err
		}
		if err := unix.InitModule(image, ""); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load the module %s: %w", name, err)
		}
	}
	if err := mount("devtmpfs", "/dev", "devtmpfs"); err != nil {
		return err
	}
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		err := unix.Mount("/dev/vda", "/root", "ext4", 0, "")
		if err == nil {
			break
		}
		if time.Since(began) > time.Minute {
			return fmt.Errorf("mount the disk: %w", err)
		}
	}
	// As switch_root(8) does.
	if err := unix.Chdir("/root"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("make the disk the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Exec("/init", []string{"/init", "run"}, os.Environ())
}

func mount(source, target, kind string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	if err := unix.Mount(source, target, kind, 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

func mountAll() error {
	return errors.Join(
		mount("devtmpfs", "/dev", "devtmpfs"), mount("proc", "/proc", "proc"), mount("sysfs", "/sys", "sysfs"),
		mount("cgroup2", "/sys/fs/cgroup", "cgroup2"), mount("devpts", "/dev/pts", "devpts"), mount("tmpfs", "/dev/shm", "tmpfs"),
	)
}

// port opens a serial port that leaves bytes as they are.
func port(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open a serial port: %w", err)
	}
	mode, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read the mode of %s: %w", path, err)
	}
	mode.Oflag &^= unix.OPOST
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, mode); err != nil {
		return nil, fmt.Errorf("set the mode of %s: %w", path, err)
	}
	return f, nil
}

// run runs the command and reaps whatever loses its parent meanwhile.
func run() (code int, err error) {
	text, err := os.ReadFile("/command")
	if err != nil {
		return 0, err
	}
	args := strings.Split(string(bytes.TrimSuffix(text, []byte("\n"))), "\n")
	out, err := port("/dev/ttyS1")
	if err != nil {
		return 0, err
	}
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
	pid, err := syscall.ForkExec(args[0], args, &syscall.ProcAttr{
		Dir: "/tests", Env: []string{"PATH=/bin", "HOME=/", "TMPDIR=/tmp", "DAYFLY_TEST_PROGRAM=/tests/misbehave"},
		Files: []uintptr{0, out.Fd(), out.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", args[0], err)
	}
	for {
		var status unix.WaitStatus
		ended, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for the tests: %w", err)
		case ended == pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		case ended == pid:
			return status.ExitStatus(), nil
		}
	}
}
