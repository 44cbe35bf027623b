package peer

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/bench/load"
)

// Timing is how long one start took.
type Timing struct {
	// FirstByte is from the decision to start until the first byte of the
	// answer, Start until the engine said that the process runs.
	FirstByte, Start time.Duration
	// Teardown is from the decision to end until nothing is left.
	Teardown time.Duration
}

// Engine starts the program anew, asks it once, and ends it.
type Engine interface {
	Name() string
	Cycle(ctx context.Context) (Timing, error)
	Close() error
}

// port is where the program listens in a network of its own.
const port = 8080

// pause is how long who waits for a listener sleeps between two looks.
const pause = 100 * time.Microsecond

// patience bounds the wait for a listener.
const patience = 10 * time.Second

// ask waits until the program can be reached, and gives the first byte.
func ask(ctx context.Context, dial func() (net.Conn, error)) error {
	for began := time.Now(); ; time.Sleep(pause) {
		nc, err := dial()
		if err == nil {
			c := load.New(nc)
			a, err := c.Do(load.Request("GET", "/", "peer"))
			_ = c.Close() // one answer is all that is wanted
			if err == nil && a.Status != 200 {
				err = fmt.Errorf("it answered %d", a.Status)
			}
			return err
		}
		if ctx.Err() != nil || time.Since(began) > patience {
			return fmt.Errorf("wait until the program listens: %w", err)
		}
	}
}

// dialTCP dials an address.
func dialTCP(address string) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.DialTimeout("tcp", address, time.Second) }
}

// dialInside dials the program on the loopback of the network namespace of a
// process.
func dialInside(pid int) func() (net.Conn, error) {
	return func() (net.Conn, error) {
		fd, err := socketInside("/proc/" + strconv.Itoa(pid) + "/ns/net")
		if err != nil {
			return nil, err
		}
		f := os.NewFile(uintptr(fd), "inside")
		defer func() { _ = f.Close() }() // FileConn makes a copy
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return nil, fmt.Errorf("connect inside: %w", err)
		}
		return net.FileConn(f)
	}
}

// socketInside makes a socket in a network namespace.
func socketInside(path string) (int, error) {
	runtime.LockOSThread()
	inside, err := os.Open(path)
	if err != nil {
		runtime.UnlockOSThread()
		return -1, fmt.Errorf("open the network namespace: %w", err)
	}
	defer func() { _ = inside.Close() }() // it was only entered
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return -1, fmt.Errorf("open our network namespace: %w", err)
	}
	defer func() { _ = home.Close() }() // it was only entered
	if err := unix.Setns(int(inside.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return -1, fmt.Errorf("enter the network namespace: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if herr := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); herr != nil {
		// The thread stays locked and ends with its goroutine.
		return -1, fmt.Errorf("leave the network namespace: %w", herr)
	}
	runtime.UnlockOSThread()
	if err != nil {
		return -1, fmt.Errorf("make a socket inside: %w", err)
	}
	return fd, nil
}
