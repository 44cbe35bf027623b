package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image"
)

func TestEnvironment(t *testing.T) {
	t.Parallel()
	got := environment([]string{"A=1", "PATH=/image", "bad", "=worse", "B="}, []string{"A=2", "HOME=/mine", "A=3", "C=x=y"}, "/home/app", "host")
	want := []string{"PATH=/image", "HOME=/mine", "HOSTNAME=host", "A=3", "B=", "C=x=y"}
	if !slices.Equal(got, want) {
		t.Errorf("the environment is %q, want %q", got, want)
	}
	if got := environment(nil, nil, "/", "h"); !slices.Equal(got, []string{"PATH=" + defaultPath, "HOME=/", "HOSTNAME=h"}) {
		t.Errorf("the least environment is %q", got)
	}
}

func TestSearchPath(t *testing.T) {
	t.Parallel()
	for want, env := range map[string][]string{
		defaultPath: {"XPATH=/x"}, "/last": {"PATH=/first", "A=b", "PATH=/last"}, "": {"PATH="},
	} {
		if got := searchPath(env); got != want {
			t.Errorf("of %q the search path is %q, want %q", env, got, want)
		}
	}
}

func TestHostname(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"hello": "hello", "re_size-2": "re-size-2", "_-": "function", "日本語": "function", "日x": "x", "--a--": "a",
		strings.Repeat("a", 62) + "__b": strings.Repeat("a", 62), strings.Repeat("b", 300): strings.Repeat("b", 63),
	} {
		if got := hostname(core.InstanceSpec{Function: name}); got != want {
			t.Errorf("the host name of %q is %q, want %q", name, got, want)
		}
	}
}

// The layout is that of struct config in pid1/src/init.c.
func TestConfigLayout(t *testing.T) {
	t.Parallel()
	c := &config{
		layers: 3, args: []string{"/a", "b c", ""}, env: []string{"X=1", "PATH=/p"}, groups: []uint32{7, 8},
		uid: 10, gid: 20, flags: 5, files: 64, tmpKiB: 9, dir: "/d", hostname: "h\n", hosts: "hosts\n", resolv: "resolv\n",
		filter: bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 3), outLimit: 11, errLimit: 12,
	}
	b := c.encode()
	var head struct {
		Magic, Size, Layers, Args, Envs, Groups, Flags, UID, GID, Files, Tmp           uint32
		ArgsAt, EnvsAt, GroupsAt, DirAt, HostnameAt, HostsAt, ResolvAt, PathAt, Filter uint32
		FilterLen, Sockets, Root, Mounts, MountsAt, Pad                                uint32
		Out, Err                                                                       uint64
	}
	if _, err := binary.Decode(b, binary.NativeEndian, &head); err != nil {
		t.Fatal(err)
	}
	text := func(at uint32, n int) string {
		parts := strings.SplitAfterN(string(b[at:]), "\x00", n+1)
		return strings.Join(parts[:n], "")
	}
	if head.Magic != configMagic || int(head.Size) != len(b) || head.Layers != 3 || head.Args != 3 || head.Envs != 2 || head.Groups != 2 ||
		head.Flags != 5 || head.UID != 10 || head.GID != 20 || head.Files != 64 || head.Tmp != 9 || head.FilterLen != 3 ||
		head.Out != 11 || head.Err != 12 {
		t.Errorf("the head is %+v", head)
	}
	for at, want := range map[uint32]string{
		head.ArgsAt: "/a\x00b c\x00\x00", head.EnvsAt: "X=1\x00PATH=/p\x00", head.DirAt: "/d\x00", head.HostnameAt: "h\n\x00",
		head.HostsAt: "hosts\n\x00", head.ResolvAt: "resolv\n\x00", head.PathAt: "/p\x00",
	} {
		if got := text(at, strings.Count(want, "\x00")); got != want || at%8 != 0 {
			t.Errorf("at %d is %q, want %q", at, got, want)
		}
	}
	if got := binary.NativeEndian.Uint32(b[head.GroupsAt+4:]); got != 8 {
		t.Errorf("the second group is %d", got)
	}
	if !bytes.Equal(b[head.Filter:][:24], c.filter) || head.Filter%8 != 0 {
		t.Errorf("the filter is not at %d", head.Filter)
	}
}

func TestReplyLayout(t *testing.T) {
	t.Parallel()
	r := reply{Kind: kindError, Code: 2}
	copy(r.Step[:], "exec")
	if n := binary.Size(r); n != 64 || r.step() != "exec" {
		t.Errorf("a reply has %d bytes and the step %q", n, r.step())
	}
	if n := binary.Size(request{}); n != 8 {
		t.Errorf("a request has %d bytes", n)
	}
}

const (
	mountsV2 = `22 27 0:21 / /proc rw - proc proc rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
`
	mountsV1 = `31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
`
	mountsHybrid = mountsV1 + `41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
42 31 0:38 / /another rw - cgroup2 cgroup2 rw
43 31 0:32 / /also rw - cgroup cgroup rw,memory
a line that is cut
`
)

func TestCgroupMounts(t *testing.T) {
	t.Parallel()
	legacy := map[string]string{"cpu": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory", "pids": "/sys/fs/cgroup/pids"}
	for name, test := range map[string]struct {
		mountinfo, unified string
		legacy             map[string]string
	}{
		"version 2": {mountsV2, "/sys/fs/cgroup", map[string]string{}},
		"version 1": {mountsV1, "", legacy},
		"hybrid":    {mountsHybrid, "/sys/fs/cgroup/unified", legacy},
		"none":      {"", "", map[string]string{}},
	} {
		unified, got := cgroupMounts([]byte(test.mountinfo))
		if unified != test.unified || !reflect.DeepEqual(got, test.legacy) {
			t.Errorf("%s: %q and %q, want %q and %q", name, unified, got, test.unified, test.legacy)
		}
	}
}

func TestCgroupDirectories(t *testing.T) {
	t.Parallel()
	c := &cgroups{unified: "/u", legacy: map[string]string{"memory": "/m", "cpu": "/both", "pids": "/both"}}
	if got := c.dirs(); !slices.Equal(got, []string{"/u", "/m", "/both"}) {
		t.Errorf("the directories are %q", got)
	}
	if dir, v2 := c.dir("memory", "s1"); dir != "/m/s1" || v2 {
		t.Errorf("memory is at %s, %t", dir, v2)
	}
	c = &cgroups{unified: "/u"}
	if dir, v2 := c.dir("memory", "s1"); dir != "/u/s1" || !v2 {
		t.Errorf("memory is at %s, %t", dir, v2)
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	text := []byte("oom_kill_disable 0\nunder_oom 0\noom_kill 3\nusage_usec 12345678901\nlast 5")
	for name, want := range map[string]int64{"oom_kill": 3, "usage_usec": 12345678901, "oom": 0, "none": 0, "last": 5, "under_oom": 0} {
		if got := field(text, name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	s := slots{used: map[int]bool{}}
	s.hold(1)
	var got []int
	for range 3 {
		n, err := s.take()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n)
	}
	if !slices.Equal(got, []int{0, 2, 3}) {
		t.Errorf("the slots are %d", got)
	}
	for len(s.used) < maxBoxes {
		if _, err := s.take(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.take(); !core.IsKind(err, core.KindUnavailable) {
		t.Errorf("with all slots taken the error is %v", err)
	}
	s.free(2)
	if n, err := s.take(); n != 2 || err != nil {
		t.Errorf("the slot that is free is told as %d, %v", n, err)
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	d := &Driver{}
	spec := core.InstanceSpec{App: "shop", Function: "resize", Memory: 4 * core.MiB}
	cfg := &config{args: []string{"/app"}, dir: "/work"}
	for _, test := range []struct {
		step string
		err  syscall.Errno
		code core.Code
		says string
	}{
		{"exec", syscall.ENOENT, core.ReasonStartFailed, "no program /app"},
		{"exec", syscall.ENOTDIR, core.ReasonStartFailed, "no program /app"},
		{"exec", syscall.EACCES, core.ReasonStartFailed, "may not be executed"},
		{"exec", syscall.ENOEXEC, core.ReasonImageUnsupported, "another architecture"},
		{"exec", syscall.E2BIG, core.ReasonStartFailed, "128 KiB"},
		{"exec", syscall.ENOMEM, core.ReasonOOMKilled, "4MiB"},
		{"enter the working directory", syscall.ENOENT, core.ReasonStartFailed, "/work"},
		{"mount the layers", syscall.EINVAL, core.ReasonStartFailed, "mount the layers"},
	} {
		err := d.startError(spec, cfg, fmt.Errorf("wrapped: %w", &stepError{step: test.step, err: test.err}))
		told := core.AsError(err)
		if told.Kind != core.KindFunction || told.Code != test.code || !strings.Contains(err.Error(), test.says) ||
			!strings.Contains(told.Message, "shop/resize") && test.step != "exec" || !errors.Is(err, test.err) {
			t.Errorf("%s: %v gives %+v", test.step, test.err, told)
		}
	}
	other := errors.New("something else")
	if err := d.startError(spec, cfg, other); !errors.Is(err, other) || core.AsError(err).Kind != core.KindInternal {
		t.Errorf("an error that is not init's becomes %v", err)
	}
	for err, code := range map[error]core.Code{
		syscall.ENOSPC: core.ReasonDiskFull, syscall.EDQUOT: core.ReasonDiskFull, syscall.EMFILE: core.CodeUnavailable, other: core.ReasonStartFailed,
	} {
		if got := core.AsError(d.explain(fmt.Errorf("wrapped: %w", err))); got.Code != code {
			t.Errorf("%v is explained as %+v", err, got)
		}
	}
}

func TestWhatInitCannotDoIsRefused(t *testing.T) {
	t.Parallel()
	d := &Driver{}
	spec := core.InstanceSpec{App: "shop", Function: "resize", Files: 10}
	for says, check := range map[string]func() error{
		"129 layers": func() error { return d.check(image.Rootfs{Layers: make([]string, 129)}, spec, nil) },
		"zero byte": func() error {
			return d.check(image.Rootfs{Config: core.ImageConfig{WorkingDir: "/a\x00b"}}, spec, []string{"/app"})
		},
		"open files": func() error {
			spec := spec
			spec.Files = 1 << 40
			return d.check(image.Rootfs{}, spec, nil)
		},
	} {
		if err := check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("the error is %v, and says nothing of %q", err, says)
		}
	}
	if err := d.check(image.Rootfs{Layers: make([]string, 128)}, spec, []string{"/app", "x"}); err != nil {
		t.Errorf("what can be done is refused: %v", err)
	}
}

// What init has said last is heard also when it has not read all it was sent.
func TestLastMessageOfInitIsHeard(t *testing.T) {
	t.Parallel()
	c, theirs, err := newChannel()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	last := reply{Kind: kindExited, Code: 7}
	b, err := binary.Append(nil, binary.NativeEndian, &last)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.request(kindSignal, 15); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Write(b); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	if got, err := c.read(); err != nil || got != last {
		t.Errorf("the last message is %+v, %v", got, err)
	}
	if _, err := c.read(); err == nil {
		t.Error("after the last message there is another")
	}
}

// A pump that never ran, and one whose writer is slow, end without a trace.
func TestPump(t *testing.T) {
	t.Parallel()
	p, w, err := newPump(nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	p.drop()
	<-p.done
	p.drain() // of a closed one: nothing to do

	var out bytes.Buffer
	q, w, err := newPump(&out)
	if err != nil {
		t.Fatal(err)
	}
	go q.run()
	for i := range 100 {
		if _, err := fmt.Fprintln(w, i); err != nil {
			t.Fatal(err)
		}
		q.drain()
		q.mu.Lock()
		if !strings.HasSuffix(out.String(), fmt.Sprintln(i)) {
			t.Errorf("after drain the writer has %q", out.String())
		}
		q.mu.Unlock()
	}
	_ = w.Close()
	<-q.done
}

func TestFeedEndsWithItsReader(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	r, err := feed(io.LimitReader(zeros{}, 1<<30), &wg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Error(err)
	}
	_ = r.Close()
	wg.Wait()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
