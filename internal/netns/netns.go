// Package netns makes sockets inside other network namespaces than the
// program's own.
//
// A socket belongs for good to the namespace it was made in, so that it is
// enough to step in for a moment. One thread of a [Doorway] does the stepping
// and nothing else: setns changes a thread for good, and a thread that may be
// in any namespace must not run anybody's code.
//
// All methods may be called concurrently.
package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Doorway steps into namespaces. Entering one takes CAP_SYS_ADMIN over it.
type Doorway struct {
	asks chan ask
	stop chan struct{}
	once sync.Once
	wg   sync.WaitGroup
}

type ask struct {
	netns  int
	family int
	answer chan answer
}

type answer struct {
	fd  int
	err error
}

// New makes a doorway, which Close takes down.
func New() (*Doorway, error) {
	w := &Doorway{asks: make(chan ask), stop: make(chan struct{})}
	ready := make(chan error)
	w.wg.Add(1)
	go OnThread(func() {
		defer w.wg.Done()
		home, err := emptyHome()
		ready <- err
		if err != nil {
			return
		}
		defer func() { _ = home.Close() }()
		for {
			select {
			case <-w.stop:
				return
			case a := <-w.asks:
				fd, err := socketIn(a.netns, int(home.Fd()), a.family)
				a.answer <- answer{fd, err}
			}
		}
	})
	if err := <-ready; err != nil {
		w.wg.Wait()
		return nil, err
	}
	return w, nil
}

// emptyHome moves the thread into a network namespace of its own, and gives
// that: between two visits a thread has to be somewhere, and who is root of a
// user namespace only may not go back to the machine's own network.
func emptyHome() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open a network namespace: %w", err)
	}
	return home, nil
}

func socketIn(netns, home, family int) (int, error) {
	if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
		return -1, fmt.Errorf("enter the network namespace: %w", err)
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	// Do not stay: a thread inside keeps the namespace alive.
	if herr := unix.Setns(home, unix.CLONE_NEWNET); herr != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("leave the network namespace: %w", herr)
	}
	if err != nil {
		return -1, fmt.Errorf("make a socket: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	return fd, nil
}

// Socket makes a TCP socket of a family in the namespace of a descriptor, which
// must stay open until it returns. The socket does not block. After Close the
// error is [net.ErrClosed].
func (w *Doorway) Socket(ctx context.Context, netns, family int) (int, error) {
	a := ask{netns: netns, family: family, answer: make(chan answer, 1)}
	select {
	case w.asks <- a:
	case <-w.stop:
		return -1, net.ErrClosed
	case <-ctx.Done():
		return -1, fmt.Errorf("enter the network namespace: %w", context.Cause(ctx))
	}
	r := <-a.answer
	return r.fd, r.err
}

// Close ends the doorway's thread. The second Close does nothing.
func (w *Doorway) Close() {
	w.once.Do(func() { close(w.stop) })
	w.wg.Wait()
}

// Dial connects a socket to the first of the addresses on which something
// listens; invalid ones are passed over. Sockets are those of spares, else
// those that socket makes, which says in which namespace. The error is
// ECONNREFUSED while nothing listens on any.
func Dial(ctx context.Context, addrs []netip.Addr, port uint16, spares *Spares, socket func(family int) (int, error)) (net.Conn, error) {
	for _, a := range addrs {
		if !a.IsValid() {
			continue
		}
		c, err := dial(ctx, netip.AddrPortFrom(a, port), spares, socket)
		if err == nil {
			spares.drop()
			return c, nil
		}
		if !isNobody(err) {
			return nil, err
		}
	}
	return nil, unix.ECONNREFUSED
}

// isNobody reports whether an error tells that nothing listens at an address.
func isNobody(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)
}

func dial(ctx context.Context, to netip.AddrPort, spares *Spares, socket func(family int) (int, error)) (net.Conn, error) {
	family, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(to.Port()), Addr: [4]byte(to.Addr().AsSlice())})
	if to.Addr().Is6() {
		family, addr = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	fd, spare := spares.take(family)
	if !spare {
		var err error
		if fd, err = socket(family); err != nil {
			return nil, err
		}
	}
	err := connect(ctx, fd, addr)
	if spare && errors.Is(err, unix.ECONNABORTED) {
		// The kernel tells so that the attempt before has come to nothing, if
		// that was not there at once. Now the socket is as new.
		err = connect(ctx, fd, addr)
	}
	if err != nil {
		if isNobody(err) {
			spares.keep(family, fd)
		} else {
			_ = unix.Close(fd)
		}
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "instance")
	defer func() { _ = f.Close() }() // FileConn makes a copy
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("take over a socket: %w", err)
	}
	return c, nil
}

// connect joins a socket that does not block. Inside one machine's loopback
// the answer is there at once; the wait is for the rest.
func connect(ctx context.Context, fd int, addr unix.Sockaddr) error {
	err := unix.Connect(fd, addr)
	for errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EINTR) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if _, perr := unix.Poll(p, 10); perr != nil && !errors.Is(perr, unix.EINTR) {
			return fmt.Errorf("wait for a connection: %w", perr)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if p[0].Revents != 0 {
			n, gerr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if gerr != nil {
				return fmt.Errorf("ask for the state of a connection: %w", gerr)
			}
			if n == 0 {
				return nil
			}
			err = unix.Errno(n)
		}
	}
	return err
}
