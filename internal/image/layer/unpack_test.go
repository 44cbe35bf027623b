package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image/layer"
)

var then = time.Unix(1_600_000_000, 123_000_000)

func file(name, body string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body)), ModTime: then, PAXRecords: map[string]string{"DAYFLY.body": body}}
}

func dir(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: then}
}

func symlink(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777, ModTime: then}
}

func hardlink(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, ModTime: then}
}

func device(kind byte, name string, major, minor int64) tar.Header {
	return tar.Header{Typeflag: kind, Name: name, Mode: 0o666, Devmajor: major, Devminor: minor}
}

func tarOf(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		body := h.PAXRecords["DAYFLY.body"]
		delete(h.PAXRecords, "DAYFLY.body")
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// box is a layer directory with a neighbour that nobody may touch.
func box(t testing.TB) (layerDir, outside string) {
	t.Helper()
	parent := t.TempDir()
	layerDir, outside = filepath.Join(parent, "layer"), filepath.Join(parent, "outside")
	for _, d := range []string{layerDir, outside} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	return layerDir, outside
}

// untouched fails the test when anything beside the layer was changed.
func untouched(t testing.TB, outside string) {
	t.Helper()
	beside, err := os.ReadDir(filepath.Dir(outside))
	if err != nil || len(beside) != 2 {
		t.Fatalf("beside the layer: %v, %v", beside, err)
	}
	in, err := os.ReadDir(outside)
	if err != nil || len(in) != 1 {
		t.Fatalf("outside the layer: %v, %v", in, err)
	}
	data, err := os.ReadFile(filepath.Join(outside, "secret"))
	if err != nil || string(data) != "secret" {
		t.Fatalf("the secret is %q, %v", data, err)
	}
	info, err := os.Stat(filepath.Join(outside, "secret"))
	if err != nil || info.Mode() != 0o600 || info.Sys().(*syscall.Stat_t).Nlink != 1 {
		t.Fatalf("the secret is now %v, %v", info, err)
	}
}

func unpack(t testing.TB, entries ...tar.Header) (string, error) {
	t.Helper()
	d, outside := box(t)
	_, err := layer.Unpack(t.Context(), d, bytes.NewReader(tarOf(t, entries...)), layer.Options{MaxBytes: 1 << 30, MaxEntries: 10_000})
	untouched(t, outside)
	return d, err
}

func mustUnpack(t testing.TB, entries ...tar.Header) string {
	t.Helper()
	d, err := unpack(t, entries...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func lstat(t testing.TB, elem ...string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(elem...), &st); err != nil {
		t.Fatalf("%v: %v", elem, err)
	}
	return st
}

func isWhiteout(t testing.TB, elem ...string) bool {
	st := lstat(t, elem...)
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func isOpaque(t testing.TB, elem ...string) bool {
	t.Helper()
	n := 0
	for _, name := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		v := make([]byte, 4)
		size, err := unix.Lgetxattr(filepath.Join(elem...), name, v)
		if err == nil && string(v[:size]) == "y" {
			n++
		}
	}
	if n == 1 {
		t.Errorf("%v has one of the two marks of an opaque directory", elem)
	}
	return n == 2
}

func contents(t testing.TB, elem ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestUnpackKeepsAttributes(t *testing.T) {
	t.Parallel()
	su := file("bin/su", "x")
	su.Mode, su.Uid, su.Gid = 0o4755, 12, 70_000
	su.PAXRecords["SCHILY.xattr.user.note"] = "hello"
	su.PAXRecords["SCHILY.xattr.user.overlay.redirect"] = "/etc"
	su.PAXRecords["SCHILY.xattr.trusted.overlay.metacopy"] = "y"
	su.PAXRecords["SCHILY.xattr.security.selinux"] = "a:b:c"
	// Version 2 of the format, cap_net_raw permitted and effective.
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00" + strings.Repeat("\x00", 12)
	su.PAXRecords["SCHILY.xattr.security.capability"] = capability
	tmp := dir("tmp/")
	tmp.Mode, tmp.Uid, tmp.Gid = 0o1777, 5, 6
	shut := dir("shut")
	shut.Mode = 0o500
	link := symlink("l", "nowhere")
	link.Uid, link.Gid = 7, 8
	pipe := tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o622, ModTime: then, Uid: 3}
	d := mustUnpack(t, dir("./"), dir("bin"), su, tmp, file("tmp/in", ""), shut, file("shut/in", "y"), link, pipe, hardlink("bin/su2", "bin/su"), hardlink("l2", "l"))

	for _, want := range []struct {
		name     string
		mode     uint32
		uid, gid uint32
		links    uint64
	}{
		{".", unix.S_IFDIR | 0o755, 0, 0, 0},
		{"bin/su", unix.S_IFREG | 0o4755, 12, 70_000, 2},
		{"tmp", unix.S_IFDIR | 0o1777, 5, 6, 0},
		{"shut", unix.S_IFDIR | 0o500, 0, 0, 0},
		{"l", unix.S_IFLNK | 0o777, 7, 8, 2},
		{"pipe", unix.S_IFIFO | 0o622, 3, 0, 1},
	} {
		st := lstat(t, d, want.name)
		if st.Mode != want.mode || st.Uid != want.uid || st.Gid != want.gid || want.links != 0 && uint64(st.Nlink) != want.links { //nolint:unconvert // it has 32 bits on arm64
			t.Errorf("%s: mode %o, owner %d:%d, links %d", want.name, st.Mode, st.Uid, st.Gid, st.Nlink)
		}
		if st.Mtim.Sec != then.Unix() || st.Mtim.Nsec != 123_000_000 {
			t.Errorf("%s: time %v", want.name, st.Mtim)
		}
	}
	for name, want := range map[string]string{"user.note": "hello", "security.capability": capability} {
		v := make([]byte, 64)
		n, err := unix.Lgetxattr(filepath.Join(d, "bin/su"), name, v)
		if err != nil || string(v[:n]) != want {
			t.Errorf("%s: %q, %v", name, v[:max(n, 0)], err)
		}
	}
	for _, name := range []string{"user.overlay.redirect", "trusted.overlay.metacopy"} {
		if _, err := unix.Lgetxattr(filepath.Join(d, "bin/su"), name, nil); !errors.Is(err, unix.ENODATA) {
			t.Errorf("%s was kept: %v", name, err)
		}
	}
}

func TestUnpackWhiteouts(t *testing.T) {
	t.Parallel()
	d := mustUnpack(t,
		dir("etc"), file("etc/.wh.gone", ""), file("opt/.wh..wh..opq", ""), file("opt/new", "1"),
		file("a/.wh.was-hidden", ""), file("a/was-hidden/in", "2"), // whiteout, then a directory there
		file("b/both/in", "3"), file("b/.wh.both", ""), // directory, then a whiteout
		file("b/file", "4"), file("b/.wh.file", ""),
		file(".wh.c", ""), file("c", "5"),
		file(".wh..wh.plnk/1.2", "x"), file("d/.wh..wh.aufs", ""),
		device(tar.TypeChar, "overlay-style", 0, 0), dir("e"), file(".wh.e", ""),
		file(".wh.f", ""), dir("f"), file(".wh..wh..opq", ""))
	for _, name := range []string{"etc/gone", "overlay-style"} {
		if !isWhiteout(t, d, name) {
			t.Errorf("%s is no whiteout", name)
		}
	}
	for name, want := range map[string]bool{"opt": true, "a/was-hidden": true, "b/both": true, "e": true, "f": true, ".": true, "etc": false, "b": false} {
		if isOpaque(t, d, name) != want {
			t.Errorf("%s: opaque is %v", name, !want)
		}
	}
	for name, want := range map[string]string{"opt/new": "1", "a/was-hidden/in": "2", "b/both/in": "3", "b/file": "4", "c": "5"} {
		if got := contents(t, d, name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, name := range []string{".wh..wh.plnk", "d"} {
		if _, err := os.Lstat(filepath.Join(d, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnpackReplaces(t *testing.T) {
	t.Parallel()
	d := mustUnpack(t,
		file("twice", "old"), file("twice", "new"),
		file("dir-to-file/a/b", "x"), file("dir-to-file", "now a file"),
		file("file-to-dir", "x"), dir("file-to-dir"), file("file-to-dir/in", "y"),
		symlink("link-to-dir", "/etc"), dir("link-to-dir"), file("link-to-dir/in", "z"),
		symlink("link-to-file", "../outside/secret"), file("link-to-file", "mine"),
		file("dir-to-link/in", ""), symlink("dir-to-link", "twice"),
		file("self", "s"), hardlink("self", "self"), hardlink("self2", "self"), hardlink("self2", "self"))
	for name, want := range map[string]string{
		"twice": "new", "dir-to-file": "now a file", "file-to-dir/in": "y",
		"link-to-dir/in": "z", "link-to-file": "mine", "dir-to-link": "new", "self2": "s",
	} {
		if got := contents(t, d, name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestUnpackStaysInside(t *testing.T) {
	t.Parallel()
	d := mustUnpack(t,
		file("/absolute", "1"), dir("real"), symlink("in", "real"), file("in/a", "2"),
		symlink("abs", "/real"), file("abs/b", "3"), dir("real/deep"), symlink("up", "real/deep/../../../../../real"), file("up/c", "4"),
		file("in/.wh.gone", ""), hardlink("h", "in/a"), file("new\nline", "5"), file("dir\n/\x1b[31m", "6"),
		symlink("chain", "abs"), file("chain/new/d", "7"))
	for name, want := range map[string]string{
		"absolute": "1", "real/a": "2", "real/b": "3", "real/c": "4", "h": "2", "new\nline": "5", "dir\n/\x1b[31m": "6", "real/new/d": "7",
	} {
		if got := contents(t, d, name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if !isWhiteout(t, d, "real/gone") {
		t.Error("the whiteout below a link is missing")
	}
}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	deep := strings.Repeat("d/", 3000)
	bad := file("owner", "")
	bad.Uid = 1<<32 - 1
	huge := file("big-attribute", "")
	huge.PAXRecords["SCHILY.xattr.user.big"] = strings.Repeat("x", 70_000)
	for name, c := range map[string]struct {
		entries []tar.Header
		code    core.Code
		says    string
	}{
		"dotdot":              {[]tar.Header{file("../outside/new", "x")}, core.CodeInvalid, `".."`},
		"inner dotdot":        {[]tar.Header{dir("a"), file("a/../../outside/new", "x")}, core.CodeInvalid, "a/../.."},
		"absolute dotdot":     {[]tar.Header{file("/../../outside/new", "x")}, core.CodeInvalid, `".."`},
		"link out":            {[]tar.Header{symlink("l", "../outside"), file("l/new", "x")}, core.CodeInvalid, `"l"`},
		"link out, absolute":  {[]tar.Header{symlink("l", "/tmp"), file("l/new", "x")}, core.CodeInvalid, `"l"`},
		"link out, whiteout":  {[]tar.Header{symlink("l", "../outside"), file("l/.wh.secret", "")}, core.CodeInvalid, `"l"`},
		"link out, opaque":    {[]tar.Header{symlink("l", "../outside"), file("l/.wh..wh..opq", "")}, core.CodeInvalid, `"l"`},
		"link to itself":      {[]tar.Header{symlink("l", "l"), file("l/new", "x")}, core.CodeInvalid, `"l"`},
		"link to proc":        {[]tar.Header{symlink("l", "/proc/self/root"), file("l/new", "x")}, core.CodeInvalid, `"l"`},
		"hard link out":       {[]tar.Header{hardlink("h", "../outside/secret")}, core.CodeInvalid, `".."`},
		"hard link through":   {[]tar.Header{symlink("l", "../outside"), hardlink("h", "l/secret")}, core.CodeInvalid, `"h"`},
		"hard link nowhere":   {[]tar.Header{hardlink("h", "etc/shadow")}, core.CodeInvalid, `"etc/shadow"`},
		"hard link to dir":    {[]tar.Header{dir("d"), hardlink("h", "d")}, core.CodeInvalid, `"h"`},
		"hard link over dir":  {[]tar.Header{file("d/f", "x"), hardlink("d", "d/f")}, core.CodeInvalid, `"d"`},
		"hard link whiteout":  {[]tar.Header{file(".wh.w", ""), hardlink("h", "w")}, core.CodeInvalid, `"h"`},
		"block device":        {[]tar.Header{device(tar.TypeBlock, "etc/sda", 8, 0)}, core.ReasonImageUnsupported, `"etc/sda"`},
		"char device":         {[]tar.Header{device(tar.TypeChar, "root/null", 1, 3)}, core.ReasonImageUnsupported, `"root/null"`},
		"block device 0/0":    {[]tar.Header{device(tar.TypeBlock, "zero", 0, 0)}, core.ReasonImageUnsupported, `"zero"`},
		"long component":      {[]tar.Header{file(long, "x")}, core.CodeInvalid, "file system does not take"},
		"long directory":      {[]tar.Header{file(long+"/x", "x")}, core.CodeInvalid, "file system does not take"},
		"long path":           {[]tar.Header{file(deep+"x", "x")}, core.CodeInvalid, "6001 bytes"},
		"below a file":        {[]tar.Header{file("f", "x"), file("f/g", "x")}, core.CodeInvalid, "both file and directory"},
		"whiteout of dot":     {[]tar.Header{file("a/.wh..", "")}, core.CodeInvalid, "whiteout"},
		"whiteout of dotdot":  {[]tar.Header{file("a/.wh...", "")}, core.CodeInvalid, "whiteout"},
		"whiteout of nothing": {[]tar.Header{file("a/.wh.", "")}, core.CodeInvalid, "whiteout"},
		"below a whiteout":    {[]tar.Header{file(".wh.a/b", "")}, core.CodeInvalid, "below the whiteout"},
		"root as a file":      {[]tar.Header{file("./.", "x")}, core.CodeInvalid, "root directory"},
		"root as a link":      {[]tar.Header{symlink("./", "../outside")}, core.CodeInvalid, "root directory"},
		"empty link":          {[]tar.Header{{Typeflag: tar.TypeSymlink, Name: "l", Linkname: ""}}, core.CodeInvalid, `"l"`},
		"owner":               {[]tar.Header{bad}, core.CodeInvalid, "4294967295"},
		"attribute":           {[]tar.Header{huge}, core.ReasonImageUnsupported, "big-attribute"},
		"type":                {[]tar.Header{{Typeflag: 'M', Name: "multi"}}, core.ReasonImageUnsupported, `"multi"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := unpack(t, c.entries...)
			e, ok := errors.AsType[*core.Error](err)
			if !ok || e.Kind != core.KindInvalid || e.Code != c.code || !strings.Contains(e.Message, c.says) {
				t.Fatalf("got %#v", err)
			}
			if len(e.Message) > 600 {
				t.Errorf("the message has %d bytes", len(e.Message))
			}
		})
	}
}

func TestUnpackLinkPathsStayShort(t *testing.T) {
	t.Parallel()
	// Each round goes through a link to where the last one ended, to get
	// deeper than any path reaches.
	deep := strings.Repeat("d/", 1000)
	entries := []tar.Header{dir("d0/" + deep)}
	for i := range 4 {
		entries = append(entries, symlink(fmt.Sprintf("l%d", i), fmt.Sprintf("d%d/%s", i, deep)), symlink(fmt.Sprintf("d%d", i+1), fmt.Sprintf("l%d", i)), dir(fmt.Sprintf("d%d/%s", i+1, deep)))
	}
	if _, err := unpack(t, entries...); !core.IsKind(err, core.KindInvalid) {
		t.Fatalf("got %v", err)
	}
}

func TestUnpackDropsDevicesBelowDev(t *testing.T) {
	t.Parallel()
	d := mustUnpack(t, dir("dev"), device(tar.TypeChar, "dev/null", 1, 3), device(tar.TypeBlock, "./dev/sda", 8, 0), device(tar.TypeChar, "dev/pts/0", 136, 0))
	left, err := os.ReadDir(filepath.Join(d, "dev"))
	if err != nil || len(left) != 0 {
		t.Fatalf("dev has %v, %v", left, err)
	}
}

func TestUnpackBounds(t *testing.T) {
	t.Parallel()
	errNoRoom := errors.New("no room")
	many := make([]tar.Header, 0, 30)
	for i := range 30 {
		many = append(many, file(fmt.Sprint(i), ""))
	}
	for name, c := range map[string]struct {
		data []byte
		opts layer.Options
		want func(error) bool
	}{
		"entries":             {tarOf(t, many...), layer.Options{MaxEntries: 29}, tooLarge},
		"implied directories": {tarOf(t, file(strings.Repeat("d/", 40)+"f", "")), layer.Options{MaxEntries: 20}, tooLarge},
		"bytes":               {tarOf(t, file("a", strings.Repeat("x", 5000))), layer.Options{MaxBytes: 5000}, tooLarge},
		"sparse bytes":        {sparse(1 << 50), layer.Options{MaxBytes: 1 << 30}, tooLarge},
		"a size of base 256":  {base256(1 << 40), layer.Options{MaxBytes: 1 << 30}, tooLarge},
		"room":                {tarOf(t, file("a", "x")), layer.Options{Room: func(int64) error { return errNoRoom }}, func(err error) bool { return errors.Is(err, errNoRoom) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, outside := box(t)
			_, err := layer.Unpack(t.Context(), d, bytes.NewReader(c.data), c.opts)
			untouched(t, outside)
			if !c.want(err) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func tooLarge(err error) bool { return core.IsKind(err, core.KindTooLarge) }

// sparse is a tar of one file that is a hole of n bytes, in GNU's PAX form.
func sparse(n int64) []byte {
	var b bytes.Buffer
	record := func(k, v string) string {
		for size := len(k) + len(v) + 3; ; size++ {
			if s := fmt.Sprintf("%d %s=%s\n", size, k, v); len(s) == size {
				return s
			}
		}
	}
	body := record("GNU.sparse.major", "0") + record("GNU.sparse.minor", "1") + record("GNU.sparse.name", "hole") +
		record("GNU.sparse.size", fmt.Sprint(n)) + record("GNU.sparse.numblocks", "0") + record("GNU.sparse.map", "")
	b.Write(rawHeader("pax", 'x', fmt.Appendf(nil, "%011o\x00", len(body))))
	b.WriteString(body)
	b.Write(make([]byte, 512-len(body)%512))
	b.Write(rawHeader("hole", '0', []byte("00000000000\x00")))
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

func base256(n int64) []byte {
	size := make([]byte, 12)
	size[0] = 0x80
	for i := range 8 {
		size[11-i] = byte(n >> (8 * i))
	}
	return append(rawHeader("big", '0', size), make([]byte, 1024)...)
}

func rawHeader(name string, kind byte, size []byte) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], size)
	copy(h[136:], "00000000000\x00        ")
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

func TestUnpackSparse(t *testing.T) {
	t.Parallel()
	d, _ := box(t)
	stats, err := layer.Unpack(t.Context(), d, bytes.NewReader(sparse(3<<20)), layer.Options{MaxBytes: 1 << 30})
	if err != nil || stats.Bytes != 3<<20 || stats.Entries != 1 {
		t.Fatalf("got %+v, %v", stats, err)
	}
	if got := contents(t, d, "hole"); got != strings.Repeat("\x00", 3<<20) {
		t.Fatalf("the hole has %d bytes", len(got))
	}
}

func TestUnpackIgnoresGlobalHeaders(t *testing.T) {
	t.Parallel()
	d := mustUnpack(t, tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "x", "path": "../outside/new"}}, file("a", "1"))
	if got := contents(t, d, "a"); got != "1" {
		t.Fatal(got)
	}
	if left, _ := os.ReadDir(d); len(left) != 1 {
		t.Fatalf("the layer has %v", left)
	}
}

func TestUnpackDamaged(t *testing.T) {
	t.Parallel()
	whole := tarOf(t, file("a", strings.Repeat("x", 3000)), file("b", "y"))
	nul := bytes.Replace(tarOf(t, file("name-with-a-zero", "")), []byte("name-with"), []byte("na\x00e-with"), 1)
	for name, data := range map[string][]byte{
		"cut in a header": whole[:300], "cut in a body": whole[:2000], "cut before the last": whole[:512+3072+100],
		"garbage": bytes.Repeat([]byte("garbage!"), 200), "checksum": nul,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, outside := box(t)
			_, err := layer.Unpack(t.Context(), d, bytes.NewReader(data), layer.Options{})
			untouched(t, outside)
			if !core.IsKind(err, core.KindInvalid) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestUnpackEndsWithItsContext(t *testing.T) {
	t.Parallel()
	d, _ := box(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := layer.Unpack(ctx, d, bytes.NewReader(tarOf(t, file("a", "x"))), layer.Options{})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

// FuzzUnpack: whatever the bytes, nothing outside the layer changes, what was
// made can be removed, and nothing panics.
func FuzzUnpack(f *testing.F) {
	f.Add(tarOf(f, dir("a"), file("a/b", "x"), symlink("l", "../outside"), file("l/c", "y"), hardlink("h", "a/b"), file("a/.wh.b", ""), file("a/.wh..wh..opq", "")))
	f.Add(tarOf(f, file("../outside/x", "y"), symlink("x", "/"), hardlink("x/y", "../outside/secret")))
	f.Add(tarOf(f, file(".wh...", ""), device(tar.TypeChar, "c", 0, 0), device(tar.TypeBlock, "dev/b", 1, 1)))
	f.Add(sparse(1 << 20))
	f.Add(base256(1 << 40))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, outside := box(t)
		_, _ = layer.Unpack(t.Context(), d, bytes.NewReader(data), layer.Options{MaxBytes: 1 << 20, MaxEntries: 100})
		untouched(t, outside)
		if err := os.RemoveAll(d); err != nil {
			t.Fatal(err)
		}
	})
}

func TestUnpackGivesFilesToOwners(t *testing.T) {
	t.Parallel()
	entries := []tar.Header{
		{Name: "root", Typeflag: tar.TypeReg, Mode: 0o600},
		{Name: "app", Typeflag: tar.TypeReg, Mode: 0o600, Uid: 7, Gid: 9},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "app", Uid: 7, Gid: 9},
		{Name: "implied/file", Typeflag: tar.TypeReg, Mode: 0o600},
	}
	for _, c := range []struct {
		owners           layer.Owners
		root, app, group uint32
	}{
		{layer.Owners{}, 0, 7, 9},
		{layer.Owners{First: 5000, Count: 10}, 5000, 5007, 5009},
		{layer.Owners{First: 5000, Count: 1}, 5000, 5000, 5000},
	} {
		d, _ := box(t)
		if _, err := layer.Unpack(t.Context(), d, bytes.NewReader(tarOf(t, entries...)), layer.Options{Owners: c.owners}); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string][2]uint32{
			".": {c.root, c.root}, "root": {c.root, c.root}, "app": {c.app, c.group}, "link": {c.app, c.group}, "implied": {c.root, c.root},
		} {
			if st := lstat(t, d, name); st.Uid != want[0] || st.Gid != want[1] {
				t.Errorf("%+v: %s belongs to %d:%d, want %d", c.owners, name, st.Uid, st.Gid, want)
			}
		}
	}
	d, _ := box(t)
	entries[1].Gid = 10
	_, err := layer.Unpack(t.Context(), d, bytes.NewReader(tarOf(t, entries...)), layer.Options{Owners: layer.Owners{First: 5000, Count: 10}})
	if core.AsError(err).Code != core.ReasonImageUnsupported || !strings.Contains(err.Error(), "/etc/subuid") {
		t.Errorf("a group beyond the range: %v", err)
	}
}
