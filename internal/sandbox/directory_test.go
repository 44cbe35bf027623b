package sandbox_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/drivertest"
	"github.com/dayfly-io/dayfly/internal/image/pack"
	"github.com/dayfly-io/dayfly/internal/sandbox"
)

const owner = drivertest.DirectoryOwner

// hostDirectory makes a directory of a user's.
func hostDirectory(t testing.TB, dir string, uid int) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	return dir
}

// withDirectories opens a driver that allows directories.
func withDirectories(t testing.TB, allowed ...core.HostDirectory) *fixture {
	t.Helper()
	f := fixtureIn(t, t.TempDir())
	f.openImages(t)
	f.driver = f.openDriver(t, sandbox.Options{Directories: allowed})
	return f
}

func (f *fixture) mounting(t testing.TB, user string, mounts ...core.Mount) core.InstanceSpec {
	t.Helper()
	spec := drivertest.Spec(f.asUser(t, user))
	spec.Mounts = mounts
	return spec
}

// mount mounts in the mount namespace of the tests, for as long as one runs.
func mount(t testing.TB, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Fatalf("mount %s at %s: %v", kind, target, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
}

func ownerOf(t testing.TB, path string) (uid, gid uint32) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatalf("%s has no owner", path)
	}
	return st.Uid, st.Gid
}

// Whoever the function is in its image, on the host it is the owner of the
// directory, and in the directory it has that owner's rights and no others.
func TestFunctionsAreTheOwnersOfWhatTheyMount(t *testing.T) {
	t.Parallel()
	dir := hostDirectory(t, filepath.Join(t.TempDir(), "data"), owner)
	f := withDirectories(t, core.HostDirectory{Name: "data", Path: dir})
	drivertest.Put(t, filepath.Join(dir, "private"), "the owner's", 0o600)
	for name, mode := range map[string]os.FileMode{"root": 0o600, "roots-to-read": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("root's"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range []string{"", "app", "65534:65534", "12345"} {
		at := "/data/by-" + strings.NewReplacer(":", "-").Replace("u"+user)
		drivertest.Try(t, f.driver, f.mounting(t, user, core.Mount{Name: "data", Path: "/data"}),
			"read:/data/private", "the owner's", "write:"+at+"=x", "", "chmod:"+at, "", "read:/data/root", "error: permission denied",
			"append:/data/roots-to-read=x", "error: permission denied", "read:/data/roots-to-read", "root's")
		onHost := filepath.Join(dir, filepath.Base(at))
		if uid, gid := ownerOf(t, onHost); uid != owner || gid != owner {
			t.Errorf("what user %q wrote belongs to %d and group %d, want %d", user, uid, gid, owner)
		}
	}
}

// A directory of root's can be read where everyone may, and never written to,
// also when it became root's after the server had started.
func TestDirectoriesOfRootCanOnlyBeRead(t *testing.T) {
	t.Parallel()
	dir := hostDirectory(t, filepath.Join(t.TempDir(), "root"), 0)
	group := hostDirectory(t, filepath.Join(t.TempDir(), "group"), owner)
	if err := os.Chown(group, owner, 0); err != nil {
		t.Fatal(err)
	}
	drivertest.Put(t, filepath.Join(group, "private"), "the owner's", 0o600)
	drivertest.Put(t, filepath.Join(dir, "model"), "of the host", 0o644)
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("root's"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := withDirectories(t, core.HostDirectory{Name: "models", Path: dir, ReadOnly: true}, core.HostDirectory{Name: "group", Path: group, ReadOnly: true})
	drivertest.Try(t, f.driver, f.mounting(t, "", core.Mount{Name: "models", Path: "/models", ReadOnly: true}, core.Mount{Name: "group", Path: "/group", ReadOnly: true}),
		"read:/group/private", "the owner's", "read:/models/model", "of the host", "read:/models/secret", "error: permission denied", "write:/models/x=x", "error: read-only")

	data := hostDirectory(t, filepath.Join(t.TempDir(), "data"), owner)
	f = withDirectories(t, core.HostDirectory{Name: "data", Path: data})
	hostDirectory(t, data, 0)
	_, err := f.driver.Start(t.Context(), f.mounting(t, "", core.Mount{Name: "data", Path: "/data"}), core.Stdio{})
	if told := core.AsError(err); err == nil || told.Code != core.ReasonStartFailed || !strings.Contains(told.Message, "belongs to root") {
		t.Errorf("the error is %v", err)
	}
	drivertest.Try(t, f.driver, f.mounting(t, "", core.Mount{Name: "data", Path: "/data", ReadOnly: true}), "list:/data", "")
}

// What cannot be allowed is an error when the server starts.
func TestDirectoriesThatCannotBeAllowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	theirs := hostDirectory(t, filepath.Join(dir, "theirs"), owner)
	drivertest.Put(t, filepath.Join(dir, "file"), "", 0o644)
	if err := os.Symlink(theirs, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	group := hostDirectory(t, filepath.Join(dir, "group"), owner)
	if err := os.Chown(group, owner, 0); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path     string
		readOnly bool
		says     string
	}{
		{filepath.Join(dir, "none"), true, "cannot be opened: no such file"},
		{filepath.Join(dir, "file"), true, "is a link or no directory"},
		{filepath.Join(dir, "link"), true, "is a link or no directory"},
		{hostDirectory(t, filepath.Join(dir, "root"), 0), false, "belongs to root"},
		{group, false, "belongs to root or its group"},
		{"/proc/self", true, "is a link or no directory"},
		{"/proc/sys", true, "kernel's own"},
		{"/sys/kernel", true, "kernel's own"},
	} {
		f := fixtureIn(t, t.TempDir())
		f.openImages(t)
		d, err := sandbox.Open(t.Context(), sandbox.Options{
			Dir: f.sandboxDir(), Images: f.images, Directories: []core.HostDirectory{{Name: "data", Path: tc.path, ReadOnly: tc.readOnly}},
		})
		if err == nil {
			closeDriver(t, d)
		}
		if !core.IsKind(err, core.KindInvalid) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "data") {
			t.Errorf("%s: %v, want an error with %q", tc.path, err, tc.says)
		}
	}
}

// Overlayfs is a file system that cannot map ids.
func TestDirectoriesWhoseIDsCannotBeMapped(t *testing.T) {
	dir := t.TempDir()
	merged := hostDirectory(t, filepath.Join(dir, "merged"), owner)
	lower := hostDirectory(t, filepath.Join(dir, "lower"), owner)
	drivertest.Put(t, filepath.Join(lower, "model"), "of the host", 0o644)
	drivertest.Put(t, filepath.Join(lower, "private"), "the owner's", 0o600)
	mount(t, "overlay", merged, "overlay", 0, "lowerdir="+lower+":"+hostDirectory(t, filepath.Join(dir, "other"), owner))
	f := withDirectories(t, core.HostDirectory{Name: "models", Path: merged, ReadOnly: true})
	drivertest.Try(t, f.driver, f.mounting(t, "", core.Mount{Name: "models", Path: "/models", ReadOnly: true}),
		"read:/models/model", "of the host", "read:/models/private", "error: permission denied", "write:/models/x=x", "error: read-only")
	_, err := sandbox.Open(t.Context(), sandbox.Options{
		Dir: filepath.Join(dir, "sandbox"), Images: f.images, Directories: []core.HostDirectory{{Name: "data", Path: merged}},
	})
	if !core.IsKind(err, core.KindInvalid) || !strings.Contains(err.Error(), "cannot map ids") {
		t.Errorf("the error is %v", err)
	}
}

// What is mounted in the directory comes along, with the same restrictions;
// what is mounted there while a function runs does not.
func TestMountsInADirectory(t *testing.T) {
	dir := hostDirectory(t, filepath.Join(t.TempDir(), "data"), owner)
	inner := hostDirectory(t, filepath.Join(dir, "inner"), owner)
	later := hostDirectory(t, filepath.Join(dir, "later"), owner)
	mount(t, hostDirectory(t, filepath.Join(t.TempDir(), "another"), owner), inner, "", unix.MS_BIND, "")
	drivertest.Put(t, filepath.Join(inner, "file"), "of the inner one", 0o644)
	drivertest.Put(t, filepath.Join(inner, "program"), string(drivertest.Program(t)), 0o4755)
	f := withDirectories(t, core.HostDirectory{Name: "data", Path: dir})
	at := core.Mount{Name: "data", Path: "/data", ReadOnly: true}
	drivertest.Try(t, f.driver, f.mounting(t, "", at),
		"read:/data/inner/file", "of the inner one", "write:/data/inner/file=x", "error: read-only", "write:/data/x=x", "error: read-only",
		"run:/data/inner/program", "error: permission denied")
	at.ReadOnly = false
	drivertest.Try(t, f.driver, f.mounting(t, "", at), "write:/data/inner/x=x", "", "run:/data/inner/program", "error: permission denied")
	if uid, _ := ownerOf(t, filepath.Join(inner, "x")); uid != owner {
		t.Errorf("what it wrote to the inner mount belongs to %d", uid)
	}

	spec := f.mounting(t, "", at)
	spec.Command = []string{"/misbehave", "serve", "127.0.0.1:8080"}
	drivertest.Start(t, f.driver, spec, nil).Out.Await(t, "listening")
	mount(t, "none", later, "tmpfs", 0, "")
	mounts, err := os.ReadFile("/proc/" + strconv.Itoa(f.driver.InitOf(spec.ID)) + "/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mounts), "/data/inner ") || strings.Contains(string(mounts), "/data/later") {
		t.Errorf("its mounts are %s", mounts)
	}
}

// The directory that was allowed is the one that is mounted, whatever stands
// in its place by now.
func TestADirectoryIsHeldFromTheStart(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := hostDirectory(t, filepath.Join(parent, "data"), owner)
	drivertest.Put(t, filepath.Join(dir, "which"), "the first", 0o644)
	f := withDirectories(t, core.HostDirectory{Name: "data", Path: dir})
	if err := os.Rename(dir, filepath.Join(parent, "moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", dir); err != nil {
		t.Fatal(err)
	}
	drivertest.Try(t, f.driver, f.mounting(t, "", core.Mount{Name: "data", Path: "/data"}), "list:/data", "which", "read:/data/which", "the first")
}

// An image does not say where a directory of the host is put.
func TestMountPointsThatImagesPutInTheWay(t *testing.T) {
	t.Parallel()
	c := newCanary(t)
	dir := hostDirectory(t, filepath.Join(t.TempDir(), "data"), owner)
	f := withDirectories(t, core.HostDirectory{Name: "data", Path: dir})
	img := pack.Image{Config: drivertest.Misbehave, Files: []pack.File{
		drivertest.File("misbehave", 0o755, drivertest.Program(t)), drivertest.File("file", 0o644, nil),
		link("link", c.dir), link("up", strings.Repeat("../", 30)), link("inside", "/work"), link("proc-too", "/proc"), link("loop", "loop"),
		{Path: "work", Mode: os.ModeDir | 0o755},
		link("work/link", c.dir+"/etc"),
	}}
	digest := f.load(t, drivertest.Tar(t, img))
	for path, says := range map[string]string{
		"/link": "symbolic link", "/link/data": "symbolic link", "/up": "symbolic link", "/up/data": "symbolic link", "/inside": "symbolic link",
		"/proc-too/data": "symbolic link", "/loop/data": "symbolic link", "/work/link/a/b": "symbolic link", "/file": "a file of the image",
		"/file/data": "a file of the image", "/misbehave/a": "a file of the image",
	} {
		spec := drivertest.Spec(digest, "exit", "0")
		spec.Mounts = []core.Mount{{Name: "data", Path: path}}
		_, err := f.driver.Start(t.Context(), spec, core.Stdio{})
		if told := core.AsError(err); err == nil || told.Code != core.ReasonStartFailed || !strings.Contains(told.Message, says) || !strings.Contains(told.Message, path) {
			t.Errorf("%s: %v, want an error with %q", path, err, says)
		}
	}
	// Should a path that core refuses come here all the same, it stays inside.
	for _, path := range []string{"/../../../data", "/work/../../../data", "//work//x//"} {
		spec := drivertest.Spec(digest, "exit", "0")
		spec.Mounts = []core.Mount{{Name: "data", Path: path}}
		if _, err := f.driver.Start(t.Context(), spec, core.Stdio{}); err == nil {
			if exit, err := f.driver.Wait(drivertest.Context(t), spec.ID); err != nil || exit.Code != 0 {
				t.Errorf("%s: %+v, %v", path, exit, err)
			}
		}
	}
	c.check(t)
}
