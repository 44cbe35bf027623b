package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/sandbox/pid1"
)

// spawner is the small process that clones inits. It is started once, from a
// sealed memory file, and again should it end.
type spawner struct {
	mu      sync.Mutex
	program *os.File
	pid     int
	ctl     channel
	closed  bool
}

func newSpawner() (*spawner, error) {
	program, err := sealed("dayfly-init", pid1.Program())
	if err != nil {
		return nil, err
	}
	s := &spawner{program: program}
	if err := s.start(); err != nil {
		_ = program.Close()
		return nil, err
	}
	return s, nil
}

// sealed puts bytes in a memory file that nobody can change any more, so that
// a function which gets hold of its init's program file cannot overwrite what
// the next sandbox runs (CVE-2019-5736).
func sealed(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make a memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("fill a memory file: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("seal a memory file: %w", err)
	}
	return f, nil
}

func (s *spawner) start() error {
	ctl, theirs, err := newChannel()
	if err != nil {
		return err
	}
	defer func() { _ = theirs.Close() }()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		ctl.close()
		return fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	defer func() { _ = null.Close() }()
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.program.Fd())
	pid, err := syscall.ForkExec(path, []string{"dayfly-init"}, &syscall.ProcAttr{ //nolint:gosec // our own sealed file
		Dir:   "/",
		Env:   []string{},
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), theirs.Fd()},
		// A session of its own: a terminal's interrupt is for the server.
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		ctl.close()
		return fmt.Errorf("start the spawner: %w", err)
	}
	s.pid, s.ctl = pid, ctl
	return nil
}

// spawn clones an init that has control as its control socket, in the cgroup
// v2 of the directory cgroup, in fresh namespaces. Pid and pidfd are those of
// a child of this process, which must be waited for. A user namespace belongs
// to the user owner.
func (s *spawner) spawn(control *os.File, cgroup *os.File, flags, owner uint32) (pid, pidfd int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for try := 0; ; try++ {
		pid, pidfd, err = s.exchange(control, cgroup, flags, owner)
		if err == nil || pid < 0 || try > 0 {
			return pid, pidfd, err
		}
		if s.closed {
			return 0, -1, errors.New("the spawner is closed")
		}
		// The spawner itself is gone: make another one, once.
		s.end()
		if err := s.start(); err != nil {
			return 0, -1, err
		}
	}
}

// exchange gives pid -1 when the spawner answered that it could not clone.
func (s *spawner) exchange(control, cgroup *os.File, flags, owner uint32) (pid, pidfd int, err error) {
	fds := []int{int(control.Fd())}
	if cgroup != nil {
		flags |= spawnCgroup
		fds = append(fds, int(cgroup.Fd()))
	}
	if err := s.ctl.send(&spawnRequest{kindSpawn, flags, owner}, fds...); err != nil {
		return 0, -1, err
	}
	var b [16]byte
	oob := make([]byte, unix.CmsgSpace(4))
	if err := s.ctl.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, -1, fmt.Errorf("await the spawner: %w", err)
	}
	n, oobn, _, _, err := s.ctl.conn.ReadMsgUnix(b[:], oob)
	if err != nil {
		return 0, -1, fmt.Errorf("await the spawner: %w", err)
	}
	if n != 4 {
		return 0, -1, fmt.Errorf("the spawner answered %d bytes", n)
	}
	got := int32(binary.NativeEndian.Uint32(b[:]))
	if got < 0 {
		return -1, -1, fmt.Errorf("clone into fresh namespaces: %w", syscall.Errno(-got))
	}
	pidfd, err = sentFile(oob[:oobn])
	if err != nil {
		// Without room for one more file there is no pidfd, and a child that
		// nobody else knows of.
		_ = unix.Kill(int(got), unix.SIGKILL)
		wait(int(got))
		return -1, -1, fmt.Errorf("take the pidfd of a sandbox: %w", err)
	}
	return int(got), pidfd, nil
}

// sentFile gives the one file descriptor of a control message.
func sentFile(oob []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1, fmt.Errorf("parse a control message: %w", err)
	}
	if len(messages) != 1 {
		return -1, unix.EMFILE
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("parse a control message with %d descriptors: %w", len(fds), err)
	}
	return fds[0], nil
}

// end ends the spawner, also one that hangs, and waits for it.
func (s *spawner) end() {
	if s.pid == 0 {
		return
	}
	s.ctl.close()
	_ = unix.Kill(s.pid, unix.SIGKILL) // nobody has waited for it yet: the number is still its own
	wait(s.pid)
	s.pid = 0
}

// wait waits for a child.
func wait(pid int) {
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

func (s *spawner) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.end()
	_ = s.program.Close()
}
