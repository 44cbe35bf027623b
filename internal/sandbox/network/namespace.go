package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/netns"
)

// ownNamespace is the network namespace of the calling thread. It is not /proc/self: that is the process's first
// thread, and a caller may have locked itself to one that lives elsewhere.
const ownNamespace = "/proc/thread-self/ns/net"

// lockWait is how long one server waits for another that is opening or closing in the same namespace.
const lockWait = 5 * time.Second

// namespace is the descriptor of a network namespace; 0 is the one the caller is in. Sockets and /proc/sys/net belong
// to the namespace of the thread that opens them, so everything that opens one goes through do.
type namespace int

// do runs fn with the calling thread inside the namespace. fn must not start goroutines that need the namespace: they
// run on other threads.
func (ns namespace) do(fn func() error) error {
	if ns == 0 {
		return fn()
	}
	if !mayReturn() {
		return ns.doAway(fn)
	}
	runtime.LockOSThread()
	home, err := unix.Open(ownNamespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the thread's network namespace: %w", err)
	}
	defer unix.Close(home)
	if err := unix.Setns(int(ns), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace (descriptor %d): %w", ns, err)
	}
	err = fn()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		// The thread stays locked and so ends with its goroutine: no other goroutine may run on it.
		return errors.Join(err, fmt.Errorf("leave network namespace (descriptor %d): %w", ns, back))
	}
	runtime.UnlockOSThread()
	return err
}

// doAway is do for who may enter namespaces and not come back: root of a user namespace has no rights over the
// network it came with. A thread is spent on each call.
func (ns namespace) doAway(fn func() error) error {
	done := make(chan error)
	go netns.OnThread(func() {
		if err := unix.Setns(int(ns), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace (descriptor %d): %w", ns, err)
			return
		}
		done <- fn()
	})
	return <-done
}

// mayReturn reports whether a thread that has left the network namespace of the process can enter it again. It takes
// the right that it takes to enter it once more while one is in it.
var mayReturn = sync.OnceValue(func() bool {
	done := make(chan error)
	go netns.OnThread(func() {
		home, err := unix.Open(ownNamespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(home, unix.CLONE_NEWNET)
			_ = unix.Close(home)
		}
		done <- err
	})
	return <-done == nil
})

// handle opens a route netlink handle in the namespace; the caller closes it.
func (ns namespace) handle() (*netlink.Handle, error) {
	var h *netlink.Handle
	err := ns.do(func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err //nolint:wrapcheck // said below
	})
	if err != nil {
		return nil, fmt.Errorf("open a route netlink socket: %w", err)
	}
	return h, nil
}

// nftables returns a fresh connection: one collects the messages of one batch and is not for two goroutines. The caller
// closes it with hangUp.
func (ns namespace) nftables() (*nftables.Conn, error) {
	var conn *nftables.Conn
	err := ns.do(func() (err error) {
		conn, err = nftables.New(nftables.AsLasting())
		return err //nolint:wrapcheck // said below
	})
	if err != nil {
		return nil, fmt.Errorf("open an nftables netlink socket: %w", err)
	}
	return conn, nil
}

// hangUp closes a connection of nftables.
func hangUp(conn *nftables.Conn) { _ = conn.CloseLasting() }

// setSysctl writes a setting of the namespace, a path below /proc/sys/net.
func (ns namespace) setSysctl(path, value string) error {
	return ns.do(func() error { return os.WriteFile("/proc/sys/net/"+path, []byte(value), 0) })
}

// lock keeps the servers of one network namespace from choosing a range or handing on the forwarding switch at the
// same time. The lock is on the namespace itself, so it needs no path and goes with its holder. Any local process
// could hold it for ever, therefore the wait is bounded and ok tells whether the lock was had.
func (ns namespace) lock(ctx context.Context) (unlock func(), ok bool, err error) {
	var f *os.File
	if err := ns.do(func() (err error) { f, err = os.Open(ownNamespace); return err }); err != nil {
		return nil, false, fmt.Errorf("open the network namespace to lock it: %w", err)
	}
	unlock = func() { _ = f.Close() }
	deadline := time.NewTimer(lockWait)
	defer deadline.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return unlock, true, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, false, fmt.Errorf("lock the network namespace: %w", err)
		}
		select {
		case <-again.C:
		case <-deadline.C:
			return unlock, false, nil
		case <-ctx.Done():
			_ = f.Close()
			return nil, false, fmt.Errorf("wait for the lock of the network namespace: %w", ctx.Err())
		}
	}
}
