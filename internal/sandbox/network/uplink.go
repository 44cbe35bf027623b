package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/netns"
)

// tapName is the link by which packets leave an uplink's namespace.
const tapName = "uplink"

// uplinkTimeout is how long pasta may take to make its link, and uplinkPause how long its successor waits.
const (
	uplinkTimeout = 10 * time.Second
	uplinkPause   = time.Second
)

// tunDevice is what pasta makes its link with.
const tunDevice = "/dev/net/tun"

// ErrNoPasta says that the program is not installed.
var ErrNoPasta = errors.New("pasta is not installed")

// ErrNoTun says that it may not make its link.
var ErrNoTun = errors.New(tunDevice + " cannot be opened")

// Owned reports whether the process may change the network it is in, as root of the machine and of most containers
// may. Who may not has to have an [Uplink].
func Owned() bool { return mayReturn() }

// Uplink is a network namespace of a plain user's own, whose packets the program pasta carries to and from the host's
// network by ordinary sockets. It gives no way to the host's own loopback, and none in.
type Uplink struct {
	log    *slog.Logger
	netns  *os.File
	path   string // where the namespace is mounted while pasta opens it
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// CheckUplink says what an uplink lacks, as far as that is known without making one: ErrNoPasta or ErrNoTun.
func CheckUplink() error {
	if _, err := exec.LookPath("pasta"); err != nil {
		return ErrNoPasta
	}
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoTun, err)
	}
	return unix.Close(fd)
}

// OpenUplink makes one. dir is a directory in which it may put a file; ctx bounds the call.
func OpenUplink(ctx context.Context, dir string, log *slog.Logger) (*Uplink, error) {
	if err := CheckUplink(); err != nil {
		return nil, err
	}
	u := &Uplink{log: log, path: filepath.Join(dir, tapName)}
	if err := u.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open an uplink: %w", err), u.Close())
	}
	return u, nil
}

func (u *Uplink) open(ctx context.Context) error {
	var err error
	if u.netns, err = makeNamespace(); err != nil {
		return err
	}
	f, err := os.OpenFile(u.path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make a place for the namespace: %w", err)
	}
	_ = f.Close()
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	u.cancel = cancel
	first := make(chan error, 1)
	u.wg.Go(func() { u.keep(background, first) })
	select {
	case err := <-first:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// makeNamespace makes a network namespace.
func makeNamespace() (*os.File, error) {
	var f *os.File
	done := make(chan error)
	go netns.OnThread(func() {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			f, err = os.Open(ownNamespace)
		}
		done <- err
	})
	if err := <-done; err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return f, nil
}

// Namespace gives the descriptor of the uplink's namespace, good until Close.
func (u *Uplink) Namespace() int { return int(u.netns.Fd()) }

// keep runs pasta, and again when it ends, until ctx does. What came of the first time goes to first.
func (u *Uplink) keep(ctx context.Context, first chan<- error) {
	// The kernel kills pasta when the thread that started it ends, which is with the server at the latest. Never
	// unlocked: the thread is this goroutine's own.
	runtime.LockOSThread()
	for {
		err := u.run(ctx, func() {
			if first != nil {
				first <- nil
				first = nil
			}
		})
		if ctx.Err() != nil {
			return
		}
		if first != nil {
			first <- err
			return
		}
		u.log.Warn("pasta has ended, and sandboxes have no way out until it runs again", slog.Any("error", err), slog.Duration("retry_in", uplinkPause))
		select {
		case <-ctx.Done():
			return
		case <-time.After(uplinkPause):
		}
	}
}

// pastaArguments let everything out that the table lets through, but not to the host's loopback by way of the gateway,
// and nothing in. The namespace is set up at once: nothing in it asks for an address.
func pastaArguments(space string) []string {
	return []string{
		"--netns", space, "--netns-only", "--foreground", "--quiet", "--ipv4-only", "--config-net", "--ns-ifname", tapName,
		"--no-map-gw", "--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none",
		"--no-netns-quit", "--no-dhcp", "--no-ndp", "--no-ra", "--no-dhcpv6",
	}
}

// run runs pasta once. It calls ready when packets can leave, and gives why pasta has ended.
func (u *Uplink) run(ctx context.Context, ready func()) error {
	// pasta gives up the rights by which it could open a file of ours in /proc.
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", u.netns.Fd()), u.path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount the namespace at %s: %w", u.path, err)
	}
	unmount := sync.OnceValue(func() error { return unix.Unmount(u.path, unix.MNT_DETACH) })
	defer func() { _ = unmount() }()
	said := &tail{}
	cmd := exec.CommandContext(ctx, "pasta", pastaArguments(u.path)...) //nolint:gosec // a path of ours
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.Stderr = said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start pasta: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := u.await(ctx, ended); err != nil {
		_ = cmd.Process.Kill()
		_ = <-ended //nolint:staticcheck // it was killed, and says so
		return fmt.Errorf("pasta: %w: %s", err, said)
	}
	if err := unmount(); err != nil {
		u.log.Warn("the mount of the uplink's namespace stays", slog.Any("error", err))
	}
	ready()
	return fmt.Errorf("pasta: %w: %s", <-ended, said)
}

// await waits until the namespace has a way out. It must not take what ended gives when it succeeds.
func (u *Uplink) await(ctx context.Context, ended chan error) error {
	h, err := namespace(u.netns.Fd()).handle()
	if err != nil {
		return err
	}
	defer h.Close()
	deadline := time.NewTimer(uplinkTimeout)
	defer deadline.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !hasWayOut(h) {
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("it has ended: %w", err)
		case <-deadline.C:
			return fmt.Errorf("it has made no default route after %v", uplinkTimeout)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-again.C:
		}
	}
	return nil
}

func hasWayOut(h *netlink.Handle) bool {
	link, err := h.LinkByName(tapName)
	if err != nil || link.Attrs().Flags&unix.IFF_UP == 0 {
		return false
	}
	routes, err := h.RouteList(link, netlink.FAMILY_V4)
	if err != nil {
		return false
	}
	for _, r := range routes {
		if r.Dst == nil || r.Dst.IP.IsUnspecified() {
			return true
		}
	}
	return false
}

// Close ends pasta and gives the namespace up.
func (u *Uplink) Close() error {
	if u.cancel != nil {
		u.cancel()
	}
	u.wg.Wait()
	if u.netns == nil {
		return nil
	}
	_ = os.Remove(u.path)
	if err := u.netns.Close(); err != nil {
		return fmt.Errorf("close the uplink's namespace: %w", err)
	}
	return nil
}

// tail keeps the last that a program has said, without what pasta says of a system without a log.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const maxTail = 2048

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - maxTail; over > 0 {
		t.buf = t.buf[over:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for line := range bytes.Lines(t.buf) {
		if s := strings.TrimSpace(string(line)); s != "" && !strings.Contains(s, "to syslog") {
			out = append(out, s)
		}
	}
	return strings.Join(out, "; ")
}
