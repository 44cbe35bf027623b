package e2e_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/api"
)

// fill writes a file until the disk is full, and gives its path.
func fill(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for size, block := int64(0), int64(64<<20); block >= 512; {
		switch err := unix.Fallocate(int(f.Fd()), 0, size, block); {
		case err == nil:
			size += block
		case errors.Is(err, unix.ENOSPC):
			block /= 2
		default:
			t.Fatal(err)
		}
	}
	return path
}

// With no room left the server says so, goes on reading, and works again by
// itself when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if err := unix.Mount("tmpfs", data, "tmpfs", 0, "size=400m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(data, 0); err != nil {
			t.Error(err)
		}
	})
	s := start(t, options{data: data})
	loadMisbehave(t, s)
	s.create(t, "full", "f", "web")
	s.create(t, "full", "job", "cat", "--contract", "job")
	before := s.get(t, "/f/full/f/hello").want(t, 200).run(t)
	s.wantRun(t, before, api.StateSucceeded, "")
	s.runs(t, "app=full")

	ballast := fill(t, data)
	// Writes that must last are refused, and say why.
	put := func() answer {
		r := s.request(t.Context(), t, "PUT", "/v1/apps/full/functions/g", strings.NewReader(`{"image":"misbehave:1","env":{"PAD":"`+strings.Repeat("x", 100_000)+`"}}`))
		r.Header.Set("Content-Type", "application/json")
		return send(t, r)
	}
	until(t, "a new function is refused", patience, func() (int, bool) {
		a := put()
		return a.status, a.status == http.StatusServiceUnavailable
	})
	put().problem(t, 503, "disk_full", "the disk", "make room")
	f := misbehave(t, "another:1")
	f.files["more"] = bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	tar, _ := f.layout(t)
	path := save(t, "another.tar", tar)
	s.fails(t, 1, []string{"the disk", "make room"}, "image", "load", path)
	r := s.request(t.Context(), t, "POST", "/v1/images", bytes.NewReader(tar))
	r.Header.Set("Content-Type", "application/x-tar")
	send(t, r).problem(t, 503, "disk_full")
	// Reads go on, and calls too: their records are kept in memory meanwhile.
	wantWords(t, s.does(t, "function", "list", "--app", "full"), "full", "job")
	wantWords(t, s.does(t, "image", "list"), "misbehave:1")
	wantWords(t, s.does(t, "run", "show", before), "succeeded")
	s.does(t, "run", "list")
	var meanwhile []string
	for _, target := range []string{"/f/full/f/hello", "/f/full/job"} {
		a := s.call(t, "POST", target, "x")
		if a.status == http.StatusServiceUnavailable {
			a.problem(t, 503, "disk_full")
			continue
		}
		meanwhile = append(meanwhile, a.want(t, 200).run(t))
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	until(t, "a new function is taken", patience, func() (string, bool) {
		a := put()
		return a.body, a.status == http.StatusOK
	})
	s.does(t, "image", "load", path)
	s.get(t, "/f/full/f/hello").want(t, 200)
	for _, id := range meanwhile {
		s.wantRun(t, id, api.StateSucceeded, "")
	}
	until(t, "the runs of that time are listed", patience, func() ([]api.Run, bool) {
		list := s.runs(t, "app=full&limit=100")
		return list, len(list) == len(meanwhile)+2
	})
}

// chroot gives a command that runs another as nobody, with another root
// directory: the kernel makes no user namespaces for who has one.
func chroot(t *testing.T) []string {
	t.Helper()
	dir, world := t.TempDir(), os.Getenv(worldVariable)
	for _, at := range []string{"/proc", world} {
		if err := os.MkdirAll(dir+at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(at, dir+at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir+at, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return []string{"chroot", "--userspec=65534:65534", dir}
}

// A server that may not do what it must says what it lacks.
func TestServerWithoutPermission(t *testing.T) {
	t.Parallel()
	open := func() string {
		dir, err := os.MkdirTemp(os.Getenv(worldVariable), "nobody-")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	nobody := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
	for _, c := range []struct {
		name   string
		prefix []string
		data   string
		words  []string
	}{
		{"where no user namespaces can be made", chroot(t), open(), []string{"root", "user namespace", "doctor"}},
		{"without CAP_SYS_ADMIN", []string{"setpriv", "--bounding-set=-sys_admin"}, open(), []string{"CAP_SYS_ADMIN"}},
		{"without CAP_NET_ADMIN", []string{"setpriv", "--bounding-set=-net_admin"}, open(), []string{"CAP_NET_ADMIN"}},
		{"a directory of others", nobody, filepath.Join(t.TempDir(), "data"), []string{"permission denied", "data"}},
		{"a file in the place of the directory", nil, save(t, "data", nil), []string{"data", "not a directory"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := refused(t, options{data: c.data, prefix: c.prefix})
			if r.code() != 1 {
				t.Errorf("the exit code should be 1: %v", r)
			}
			wantWords(t, r.log, c.words...)
			if strings.Contains(r.log, "internal error") || strings.Contains(r.log, "goroutine ") {
				t.Errorf("that is no help: %s", r.log)
			}
		})
	}
}

func TestServerWithBadFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args  []string
		words []string
	}{
		{[]string{"--driver", "magic"}, []string{"magic", "sandbox"}},
		{[]string{"--memory", "plenty"}, []string{"plenty"}},
		{[]string{"--listen", "nonsense"}, []string{"nonsense", "127.0.0.1:8080"}},
		{[]string{"--nonsense"}, []string{"--nonsense"}},
	} {
		r := refused(t, options{args: c.args})
		if r.code() != 1 && r.code() != 2 {
			t.Errorf("%v: the exit code is %d", c.args, r.code())
		}
		wantWords(t, r.log, c.words...)
	}
	s := shared.get(t)
	address := strings.TrimPrefix(s.url, "http://")
	wantWords(t, refused(t, options{listen: address}).log, address, "--listen")
}
