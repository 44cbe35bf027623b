package drivertest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
)

var rooting = map[string]func(*testing.T, *suite){
	"a writable root can be written to, and no other instance sees it": writesRoot,
	"the size of a writable root holds":                                limitsRoot,
	"the number of files in a writable root is bounded":                limitsRootFiles,
	"a root that is not writable cannot be written to":                 keepsRoot,
}

var rootingMemory = map[string]func(*testing.T, *suite){
	"the memory limit counts a writable root": limitsRootMemory,
}

// notMounting is for drivers that cannot mount directories of the host.
var notMounting = map[string]func(*testing.T, *suite){
	"a mount that cannot be had is refused": func(t *testing.T, s *suite) {
		spec := s.mounted(core.Mount{Name: DirectoryData, Path: "/data"})
		spec.Command = []string{"/misbehave", "exit", "0"}
		if _, err := s.Driver.Start(Context(t), spec, core.Stdio{}); err == nil {
			t.Error("it starts without the mount")
		}
	},
}

var mounting = map[string]func(*testing.T, *suite){
	"what is written to a mount is on the host":              writesMount,
	"a mount to be read only cannot be written to":           keepsMount,
	"a mount does not lead out of the directory":             containsMount,
	"a mount has no programs and no devices":                 disarmsMount,
	"a mount that is not allowed is an error of the start":   refusesMounts,
	"a mount point that the image does not have is made":     makesMountPoints,
	"a mount is in what the image has at that path":          coversImage,
	"instances have a directory in common, each at its path": sharesMount,
}

var weighing = map[string]func(*testing.T, *suite){
	"instances share the processors by weight": sharesByWeight,
}

// The directories of the host that a driver is opened with, and who owns them.
const (
	DirectoryData   = "data"   // may be written to
	DirectoryModels = "models" // may be read only; has the file "model"
	DirectoryTools  = "tools"  // has a program, which may be executed
	DirectoryOwner  = 4711
)

// Directories makes directories of the host for [Harness.Can], in dir.
func Directories(t testing.TB, dir string) []core.HostDirectory {
	t.Helper()
	var out []core.HostDirectory
	for _, d := range []core.HostDirectory{
		{Name: DirectoryData}, {Name: DirectoryModels, ReadOnly: true}, {Name: DirectoryTools, Exec: true},
	} {
		d.Path = filepath.Join(dir, d.Name)
		if err := os.MkdirAll(d.Path, 0o777); err != nil {
			t.Fatal(err)
		}
		Put(t, filepath.Join(d.Path, "model"), "of the host", 0o644)
		// Also drivers that map no ids write here.
		if err := os.Chmod(d.Path, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(d.Path, DirectoryOwner, DirectoryOwner); err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}

// Put makes a file of [DirectoryOwner]'s.
func Put(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, DirectoryOwner, DirectoryOwner); err != nil {
		t.Fatal(err)
	}
}

// Try starts an instance that does things with files, and compares what they
// come to: want has pairs of an operation (see misbehave's try) and the text
// it gives, or a part of its error behind "error: ".
func Try(t testing.TB, d Driver, spec core.InstanceSpec, want ...string) {
	t.Helper()
	var ops []string
	for i := 0; i < len(want); i += 2 {
		ops = append(ops, want[i])
	}
	spec.ID = NextID()
	spec.Command = append([]string{"/misbehave", "try"}, ops...)
	got := map[string]string{}
	Start(t, d, spec, nil).JSON(&got)
	for i := 0; i < len(want); i += 2 {
		op, is := want[i], want[i+1]
		part, failure := strings.CutPrefix(is, "error: ")
		same := got[op] == is
		if failure {
			same = strings.HasPrefix(got[op], "error: ") && strings.Contains(got[op], part)
		}
		if !same {
			t.Errorf("%s comes to %q, want %q", op, got[op], is)
		}
	}
}

// directory gives the path on the host of a directory that may be mounted.
func (s *suite) directory(t testing.TB, name string) string {
	t.Helper()
	i := slices.IndexFunc(s.Can.Directories, func(d core.HostDirectory) bool { return d.Name == name })
	if i < 0 {
		t.Fatalf("the driver was opened without the directory %s: give it those of drivertest.Directories", name)
	}
	return s.Can.Directories[i].Path
}

func (s *suite) mounted(mounts ...core.Mount) core.InstanceSpec {
	spec := Spec(s.base)
	spec.Mounts = mounts
	return spec
}

func writesRoot(t *testing.T, s *suite) {
	spec := Spec(s.base)
	spec.Root.Writable = 8 * core.MiB
	Try(t, s.Driver, spec,
		"write:/new=a", "", "read:/new", "a",
		"mkdir:/work/dir", "", "write:/work/dir/file=b", "", "list:/work", "dir", "read:/work/dir/file", "b",
		"append:/etc/group=more:x:1:", "", "write:/plain=changed", "", "read:/plain", "changed",
		"remove:/foreign", "", "exists:/foreign", "error: no such file",
		"rename:/script=/work/script", "", "exists:/script", "error: no such file", "exists:/work/script", "",
		"write:/tmp/still=c", "", "read:/tmp/still", "c",
		"write:/proc/sys/kernel/hostname=x", "error: ", "write:/sys/kernel/x=x", "error: ", "write:/dev/x=x", "error: ",
	)
	Try(t, s.Driver, spec, "exists:/new", "error: no such file", "list:/work", "", "exists:/foreign", "", "exists:/script", "")
}

func limitsRoot(t *testing.T, s *suite) {
	spec := Spec(s.base, "eat", "/work", "20")
	spec.Root.Writable = 5 * core.MiB
	p := Start(t, s.Driver, spec, nil)
	p.Code(3)
	var n int
	if _, err := fmt.Sscan(p.Out.String(), &n); err != nil || n < 4<<20 || n > 5<<20 || !strings.Contains(p.Out.String(), "no space left") {
		t.Errorf("with 5 MiB it says %q (%v)", p.Out.String(), err)
	}
	spec = Spec(s.base, "eat", "/", "4")
	spec.Root.Writable = 5 * core.MiB
	Start(t, s.Driver, spec, nil).Code(0)
}

func limitsRootFiles(t *testing.T, s *suite) {
	spec := Spec(s.base, "eat", "inodes:/work", "0")
	spec.Root.Writable = 2 * core.MiB
	p := Start(t, s.Driver, spec, nil)
	p.Code(3)
	var n int
	if _, err := fmt.Sscan(p.Out.String(), &n); err != nil || n < 256 || n > 4096 || !strings.Contains(p.Out.String(), "no space left") {
		t.Errorf("files without bytes in a root of 2 MiB: it says %q (%v)", p.Out.String(), err)
	}
}

func limitsRootMemory(t *testing.T, s *suite) {
	spec := Spec(s.base, "eat", "/work", "60")
	spec.Memory, spec.Root.Writable = 24*core.MiB, 100*core.MiB
	if exit := Start(t, s.Driver, spec, nil).Wait(); !exit.OOM {
		t.Errorf("60 MiB in the root with 24 MiB of memory end with %+v", exit)
	}
}

func keepsRoot(t *testing.T, s *suite) {
	const refused = "error: read-only file system"
	spec := s.mounted()
	want := []string{
		"write:/new=a", refused, "mkdir:/work/dir", refused, "append:/etc/group=x", refused, "remove:/plain", refused,
		"rename:/script=/work/script", refused, "link:/work/l=/etc", refused, "chmod:/plain", refused, "write:/run/x=a", refused,
	}
	Try(t, s.Driver, spec, want...)
	if s.Can.Mounts { // the directories of mounts are made before it is
		spec.Mounts = []core.Mount{{Name: DirectoryModels, Path: "/other/dir", ReadOnly: true}}
		Try(t, s.Driver, spec, append(want, "write:/other/file=a", refused)...)
	}
}

func writesMount(t *testing.T, s *suite) {
	dir := s.directory(t, DirectoryData)
	Put(t, filepath.Join(dir, "there"), "before", 0o644)
	Try(t, s.Driver, s.mounted(core.Mount{Name: DirectoryData, Path: "/data"}),
		"read:/data/there", "before", "write:/data/written=by the function", "", "mkdir:/data/made", "",
		"write:/data/made/file=x", "", "rename:/data/made/file=/data/made/moved", "", "append:/data/there= and after", "")
	for name, want := range map[string]string{"written": "by the function", "made/moved": "x", "there": "before and after"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("on the host %s has %q, %v; want %q", name, got, err, want)
		}
	}
}

func keepsMount(t *testing.T, s *suite) {
	const refused = "error: read-only file system"
	for _, name := range []string{DirectoryModels, DirectoryTools} {
		Try(t, s.Driver, s.mounted(core.Mount{Name: name, Path: "/in", ReadOnly: true}),
			"read:/in/model", "of the host", "write:/in/model=x", refused, "write:/in/new=x", refused, "mkdir:/in/dir", refused,
			"remove:/in/model", refused, "rename:/in/model=/in/else", refused, "chmod:/in/model", refused, "link:/in/l=/etc", refused)
		if got, err := os.ReadFile(filepath.Join(s.directory(t, name), "model")); err != nil || string(got) != "of the host" {
			t.Errorf("on the host the file has %q, %v", got, err)
		}
	}
}

func containsMount(t *testing.T, s *suite) {
	dir := s.directory(t, DirectoryData)
	outside := filepath.Join(t.TempDir(), "outside")
	Put(t, outside, "the host's own", 0o644)
	for name, to := range map[string]string{
		"absolute": outside, "up": strings.Repeat("../", 30) + outside[1:], "root": "/", "etc": "/etc/passwd", "secret": "/proc/1/root" + outside,
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	Try(t, s.Driver, s.mounted(core.Mount{Name: DirectoryData, Path: "/data"}),
		"read:/data/absolute", "error: no such file", "read:/data/up", "error: no such file", "read:/data/secret", "error: ",
		"write:/data/absolute=changed", "error: ", "exists:/data/root/misbehave", "",
		"read:/data/../data/../../.."+outside, "error: no such file",
		"read:/data/etc", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:2000:the app:/home/app:/bin/sh\n",
		"hard:/data/hard=/etc/passwd", "error: cross-device", "list:/data/../data/..", "bin data dev etc foreign locked lost-script misbehave plain proc run script secret sys tmp work")
	if got, err := os.ReadFile(outside); err != nil || string(got) != "the host's own" {
		t.Errorf("the file outside has %q, %v", got, err)
	}
}

func disarmsMount(t *testing.T, s *suite) {
	for _, name := range []string{DirectoryData, DirectoryTools} {
		Put(t, filepath.Join(s.directory(t, name), "program"), string(Program(t)), 0o4755)
	}
	Try(t, s.Driver, s.mounted(core.Mount{Name: DirectoryData, Path: "/data"}, core.Mount{Name: DirectoryTools, Path: "/tools"}),
		"run:/data/program", "error: permission denied", "run:/tools/program", "",
		"device:/data/null", "error: ", "device:/tools/null", "error: ")
	var f Facts
	spec := s.mounted(core.Mount{Name: DirectoryTools, Path: "/tools"})
	spec.Command = []string{"/misbehave", "facts"}
	Start(t, s.Driver, spec, nil).JSON(&f)
	for _, line := range f.Mounts {
		if strings.Contains(line, " /tools ") && (!strings.Contains(line, "nosuid") || !strings.Contains(line, "nodev")) {
			t.Errorf("the mount is %s", line)
		}
	}
}

func refusesMounts(t *testing.T, s *suite) {
	for _, m := range []core.Mount{
		{Name: "unknown", Path: "/data"}, {Name: "", Path: "/data"}, {Name: DirectoryModels, Path: "/data"}, {Name: s.directory(t, DirectoryData), Path: "/data"},
	} {
		spec := s.mounted(m)
		_, err := s.Driver.Start(Context(t), spec, core.Stdio{})
		if told := core.AsError(err); err == nil || told.Code != core.ReasonStartFailed || told.Message == "" {
			t.Errorf("with %+v the error is %v", m, err)
		}
	}
}

func makesMountPoints(t *testing.T, s *suite) {
	spec := s.mounted(
		core.Mount{Name: DirectoryModels, Path: "/a/b/c/d", ReadOnly: true}, core.Mount{Name: DirectoryModels, Path: "/a/b/e", ReadOnly: true},
		core.Mount{Name: DirectoryModels, Path: "/etc/app/models", ReadOnly: true}, core.Mount{Name: DirectoryModels, Path: "/run/models", ReadOnly: true},
		core.Mount{Name: DirectoryModels, Path: "/tmp/models", ReadOnly: true}, core.Mount{Name: DirectoryModels, Path: "/work/models", ReadOnly: true})
	want := []string{"list:/a/b", "c e", "list:/work", "models", "exists:/etc/passwd", "", "write:/tmp/mine=x", ""}
	for _, m := range spec.Mounts {
		want = append(want, "read:"+m.Path+"/model", "of the host", "write:"+m.Path+"/model=x", "error: read-only")
	}
	Try(t, s.Driver, spec, want...)
}

func coversImage(t *testing.T, s *suite) {
	Try(t, s.Driver, s.mounted(core.Mount{Name: DirectoryModels, Path: "/bin", ReadOnly: true}),
		"exists:/bin/behave", "error: no such file", "read:/bin/model", "of the host")
}

func sharesMount(t *testing.T, s *suite) {
	Try(t, s.Driver, s.mounted(core.Mount{Name: DirectoryTools, Path: "/one"}), "write:/one/shared=from one", "")
	Try(t, s.Driver, s.mounted(core.Mount{Name: DirectoryTools, Path: "/another"}), "read:/another/shared", "from one", "append:/another/shared=x", "")
}

// sharesByWeight has two instances that use all processors, of which one
// weighs four times as much. How much others use does not matter to the ratio.
func sharesByWeight(t *testing.T, s *suite) {
	threads := runtime.NumCPU()
	start := func(w core.CPUWeight) *Process {
		spec := Spec(s.base, "spin", fmt.Sprint(threads))
		spec.CPU, spec.CPUWeight = core.CPU(1000*threads), w
		p := Start(t, s.Driver, spec, nil)
		p.Out.Await(t, "spinning")
		return p
	}
	light, heavy := start(50), start(200)
	before, above := s.usage(t, light.ID).CPU, s.usage(t, heavy.ID).CPU
	Eventually(t, "the heavy one has used over twice as much as the light one, and a second", func() bool {
		l, h := s.usage(t, light.ID).CPU-before, s.usage(t, heavy.ID).CPU-above
		return h.Seconds() > 1 && h > 2*l
	})
	light.Stop(0)
	heavy.Stop(0)
}
