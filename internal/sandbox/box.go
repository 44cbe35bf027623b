package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sandbox/network"
	"github.com/dayfly-io/dayfly/internal/socket"
)

// Each sandbox has a range of user and group ids of its own, above those that
// systemd gives to containers (0x00080000-0x6fffffff, systemd's
// UIDS-GIDS.md) and below 2^31, which some programs take for negative.
const (
	firstUID  = 0x70000000
	uidsOfBox = 0x10000
	maxBoxes  = (1<<31 - firstUID) / uidsOfBox
)

// prepareTimeout bounds the making of a box, startTimeout the rest of a start.
const (
	prepareTimeout = 10 * time.Second
	startTimeout   = 10 * time.Second
)

// box is a sandbox without a function in it yet: namespaces, cgroup, network
// and all mounts that no image decides, with init waiting for word.
type box struct {
	d      *Driver
	slot   int
	mode   core.Network
	pid    int
	pidfd  int
	ctl    channel
	group  *group
	netns  *os.File
	userns *os.File // nil without user namespaces
	link   network.Link
	// sockets is the directory in which the function makes sockets, nil for
	// none.
	sockets *socket.Dir
	// spent is what init and its descendants have used, once it has ended.
	spent atomic.Pointer[unix.Rusage]
	most  atomic.Int64 // bytes, the peak of memory as it was told, without a cgroup
}

// slots hands out the numbers that give a box its ids, address and cgroup.
type slots struct {
	mu   sync.Mutex
	used map[int]bool
	next int
}

func (s *slots) take() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	window := s.window()
	for range window {
		n := s.next % window
		s.next = n + 1
		if !s.used[n] {
			s.used[n] = true
			return n, nil
		}
	}
	return 0, core.Unavailable(core.CodeUnavailable, nil, "this node runs %d sandboxes, and there is no room for more", maxBoxes)
}

// narrow is the least number of slots that are taken in turn. Addresses by the
// hundred share a bridge: who runs few boxes has one.
const narrow = 500

// window is how many slots are taken in turn: at least twice as many as are
// used, so that one that was freed is not taken again at once, while what its
// last box had in the kernel may not be gone. mu is held.
func (s *slots) window() int {
	window := narrow
	for window < 2*len(s.used) {
		window *= 2
	}
	return min(window, maxBoxes)
}

// hold takes a certain slot, for a sandbox that outlived a server.
func (s *slots) hold(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[n] = true
}

func (s *slots) free(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.used, n)
}

func groupName(slot int) string { return "s" + strconv.Itoa(slot) }

// prepare makes a box. What init does and what is done from outside (the
// network) goes on at the same time.
func (d *Driver) prepare(ctx context.Context, mode core.Network) (*box, error) {
	slot, err := d.slots.take()
	if err != nil {
		return nil, err
	}
	b := &box{d: d, slot: slot, mode: mode, pidfd: -1}
	if err := b.build(ctx); err != nil {
		b.destroy()
		return nil, fmt.Errorf("prepare a sandbox: %w", err)
	}
	return b, nil
}

func (b *box) build(ctx context.Context) error {
	var err error
	if b.group, err = b.d.cgroups.make(groupName(b.slot)); err != nil {
		return err
	}
	if err := b.spawn(); err != nil {
		return err
	}
	if err := b.group.limit(defaultLimits); err != nil {
		return err
	}
	if err := b.begin(); err != nil {
		return err
	}
	if err := b.connect(ctx); err != nil {
		return err
	}
	r, _, err := b.ctl.await(ctx, prepareTimeout)
	if err == nil && r.Kind != kindReady {
		err = fmt.Errorf("init said %q and not that it is ready", rune(r.Kind))
	}
	return err
}

// begin has init move into its cgroups and make what no image decides.
func (b *box) begin() error {
	doors, err := b.group.doors()
	if err != nil {
		return err
	}
	files := open{files: doors}
	defer files.close()
	return b.ctl.request(kindPrepare, 0, files.fds()...)
}

func (b *box) spawn() error {
	ctl, theirs, err := newChannel()
	if err != nil {
		return err
	}
	b.ctl = ctl
	defer func() { _ = theirs.Close() }()
	dir, err := b.group.open()
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	var flags uint32
	if b.d.ids.userns {
		flags |= spawnUserns
	}
	b.pid, b.pidfd, err = b.d.spawner.spawn(theirs, dir, flags, uint32(b.d.ids.of(b.slot)))
	if err != nil {
		b.pid = 0
		return err
	}
	proc := "/proc/" + strconv.Itoa(b.pid)
	if err := b.resetOOM(); err != nil {
		return err
	}
	if b.d.ids.userns {
		ids := fmt.Sprintf("0 %d %d\n", b.d.ids.of(b.slot), b.d.ids.count)
		if err := errors.Join(put(proc+"/uid_map", ids), put(proc+"/gid_map", ids)); err != nil {
			return err
		}
		if b.userns, err = os.Open(proc + "/ns/user"); err != nil {
			return fmt.Errorf("open the user namespace: %w", err)
		}
	}
	if b.netns, err = os.Open(proc + "/ns/net"); err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	return nil
}

// resetOOM takes from init the spawner's exemption from the out-of-memory
// killer. The least value that a process may give itself is the last that a
// privileged one has given it or its parent: a function's process whose parent
// was exempt could exempt itself, and its memory limit would end nothing.
func (b *box) resetOOM() error {
	err := put("/proc/"+strconv.Itoa(b.pid)+"/oom_score_adj", "0")
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return nil // without the right to exempt there was no exemption
	}
	return err
}

// exempt keeps the out-of-memory killer from init, whose child is started: it
// has to tell how that ended. A server without the right to it goes without.
func (b *box) exempt() { _ = put("/proc/"+strconv.Itoa(b.pid)+"/oom_score_adj", "-1000") }

// mapping gives the user namespace into which the ids of layers are mapped, nil
// when they are not.
func (b *box) mapping() *os.File {
	if !b.d.ids.mapped {
		return nil
	}
	return b.userns
}

func (b *box) connect(ctx context.Context) error {
	if b.mode == core.NetworkNone {
		if err := network.Loopback(int(b.netns.Fd())); err != nil {
			return fmt.Errorf("bring the loopback interface up: %w", err)
		}
		return nil
	}
	var err error
	b.link, err = b.d.network.Attach(ctx, int(b.netns.Fd()), b.slot)
	return err
}

// destroy ends what is in the box and removes it. It returns when nothing of
// it is left but its network link, which goes a moment later by itself.
func (b *box) destroy() {
	if b.pid > 0 {
		if err := b.group.kill(); err != nil {
			_ = unix.PidfdSendSignal(b.pidfd, unix.SIGKILL, nil, 0)
		}
		b.reap()
	}
	b.release()
}

// reap waits until init, and with it every process of the sandbox, has ended.
// For one that is no child of this process it does nothing.
func (b *box) reap() {
	for {
		var info unix.Siginfo
		var spent unix.Rusage
		err := unix.Waitid(unix.P_PIDFD, b.pidfd, &info, unix.WEXITED, &spent)
		if err == nil {
			b.spent.Store(&spent)
		}
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// forget closes the files by which the server holds the box. What is in it
// goes on.
func (b *box) forget() {
	if b.ctl.conn != nil {
		b.ctl.close()
	}
	if b.pidfd >= 0 {
		_ = unix.Close(b.pidfd)
	}
	if b.netns != nil {
		_ = b.netns.Close()
	}
	if b.userns != nil {
		_ = b.userns.Close()
	}
	if b.sockets != nil {
		_ = b.sockets.Close()
	}
}

// release frees what the box held; its processes have ended.
func (b *box) release() {
	b.forget()
	if b.group != nil {
		b.group.closePeak()
		b.group.remove()
	}
	if b.link.Address.IsValid() {
		b.d.network.Detach(b.slot)
	}
	b.d.slots.free(b.slot)
}
