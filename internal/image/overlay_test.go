package image_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/image"
)

// mergeEnv makes the test binary mount layers and print what is in them; it
// runs in a mount namespace of its own.
const mergeEnv = "DAYFLY_TEST_MERGE"

func TestMain(m *testing.M) {
	if layers := os.Getenv(mergeEnv); layers != "" {
		if err := merge(strings.Split(layers, "\n")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// merge mounts an overlay of layers, lowest first, and prints its files.
func merge(layers []string) error {
	slices.Reverse(layers)
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	at, err := os.MkdirTemp("", "merged-")
	if err != nil {
		return err
	}
	defer os.Remove(at)
	if err := unix.Mount("overlay", at, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(layers, ":")); err != nil {
		return err
	}
	err = filepath.WalkDir(at, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(at, p)
		if err != nil || d.IsDir() {
			fmt.Println(rel + "/")
			return err
		}
		if d.Type() == fs.ModeSymlink {
			to, err := os.Readlink(p)
			fmt.Println(rel, "->", to)
			return err
		}
		data, err := os.ReadFile(p)
		fmt.Println(rel, string(data))
		return err
	})
	return errors.Join(err, unix.Unmount(at, 0))
}

// The kernel's own overlay shows what an image's layers make together.
func TestLayersMerge(t *testing.T) {
	t.Parallel()
	s, _ := open(t, image.Options{})
	got := load(t, s, simple(t, "merged",
		plainLayer(t, entry{name: "etc/passwd", body: "base"}, entry{name: "etc/old", body: "base"}, entry{name: "opt/a/b", body: "base"},
			entry{name: "usr/lib/c", body: "base"}, entry{name: "lib", link: "usr/lib"}, entry{name: "srv/x", body: "base"}, entry{name: "back/in", body: "base"}),
		plainLayer(t, entry{name: "etc/.wh.old"}, entry{name: "opt/.wh..wh..opq"}, entry{name: "opt/new", body: "mid"},
			entry{name: "srv", body: "a file now"}, entry{name: ".wh.back"}),
		plainLayer(t, entry{name: "etc/passwd", body: "top"}, entry{name: "back/again", body: "top"}, entry{name: "usr/lib/.wh.c"}, entry{name: "usr/lib/c/", body: ""})))[0]
	r, err := s.Rootfs(t.Context(), got.Digest)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), mergeEnv+"="+strings.Join(r.Layers, "\n"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	want := `./
back/
back/again top
etc/
etc/passwd top
lib -> usr/lib
opt/
opt/new mid
srv a file now
usr/
usr/lib/
usr/lib/c/
`
	if err != nil || string(out) != want {
		t.Fatalf("merged: %v\n%s", err, out)
	}
}
