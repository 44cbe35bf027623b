package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
)

// The names that stand for what a layer takes away, from the image
// specification.
const (
	whiteoutPrefix = ".wh."
	aufsPrefix     = ".wh..wh."
	opaqueName     = ".wh..wh..opq"
)

// headerSize is what an entry without contents takes in a tar.
const headerSize = 512

// copyBuffer is how much of a file is written at a time.
const copyBuffer = 1 << 20

// Options bounds what a layer may hold. Zero means no bound.
type Options struct {
	// MaxBytes bounds the sum of the sizes of the files, each counted with
	// 512 bytes more. Holes of sparse files count: they are written.
	MaxBytes int64
	// MaxEntries bounds the entries, and with them the directories that the
	// tar does not name but uses.
	MaxEntries int
	// Room is asked before n more bytes are written; its error ends the
	// unpacking.
	Room func(n int64) error
	// Owners says to whom files belong.
	Owners Owners
}

// Stats tells what a layer holds.
type Stats struct {
	Bytes   int64 // of regular files
	Entries int
}

// Unpack writes the tar into dir, which is there and empty, and reads src
// only as far as the end of the tar; what follows is the caller's.
func Unpack(ctx context.Context, dir string, src io.Reader, opts Options) (Stats, error) {
	if opts.MaxBytes == 0 {
		opts.MaxBytes = math.MaxInt64 / 2
	}
	u := &unpacker{opts: opts, tar: tar.NewReader(src), dirs: map[string]attributes{}}
	t, err := openTree(dir, u.implied)
	if err != nil {
		return Stats{}, err
	}
	defer t.close()
	u.tree = t
	u.dirs["."] = u.impliedAttributes()
	for {
		if err := ctx.Err(); err != nil {
			return Stats{}, fmt.Errorf("unpacking a layer: %w", context.Cause(ctx))
		}
		h, err := u.tar.Next()
		if errors.Is(err, io.EOF) {
			return u.stats, u.finish()
		}
		if err != nil {
			return Stats{}, tarError(err)
		}
		if err := u.entry(h); err != nil {
			return Stats{}, err
		}
	}
}

// tarError tells a damaged tar from the trouble of whoever gives it.
func tarError(err error) error {
	if _, ok := errors.AsType[*core.Error](err); ok {
		return err
	}
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &core.Error{Kind: core.KindInvalid, Code: core.CodeInvalid, Message: "the layer's tar is damaged or cut short", Err: err}
	}
	return fmt.Errorf("reading a layer: %w", err)
}

type unpacker struct {
	opts  Options
	tar   *tar.Reader
	tree  *tree
	stats Stats
	spent int64
	buf   []byte
	// dirs are the directories whose attributes are still to be set, by path
	// without symbolic links: making something in a directory changes its
	// time, and its mode may keep us out. dirsSize is what the paths weigh.
	dirs     map[string]attributes
	dirsSize int
}

// maxPendingDirs bounds dirsSize. Beyond it the attributes are set early; a
// directory that is then added to again has a younger time, no more.
const maxPendingDirs = 16 << 20

func (u *unpacker) entry(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // for all entries that follow; nothing we keep is said there
	}
	size := h.Size
	if !regular(h) {
		size = 0 // some programs give links the size of what they lead to
	}
	if err := u.count(size); err != nil {
		return err
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		return u.root(h)
	}
	dir, base := path.Split(name)
	skip, err := reserved(dir, base)
	if skip || err != nil {
		return err
	}
	if whited, ok := strings.CutPrefix(base, whiteoutPrefix); ok && base != opaqueName {
		base = whited
		h.Typeflag = typeWhiteout
	}
	if isDevice(h) {
		if strings.HasPrefix(name, "dev/") {
			return nil
		}
		return core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
			"the layer has a device node at %s; only those below /dev are left out, others are refused: remove it from the image", quote(name))
	}
	fd, real, err := u.tree.open(path.Clean("./"+dir), true)
	if err != nil {
		return err
	}
	if len(real)+1+len(base) > maxPath {
		return failure(unix.ENAMETOOLONG, "making", name)
	}
	if base == opaqueName {
		if err := setOpaque(fd, "."); err != nil {
			return failure(err, "marking as opaque", dir)
		}
		return nil
	}
	return u.make(fd, real, base, name, h)
}

// typeWhiteout marks a header as that of a whiteout. Tars have no such type.
const typeWhiteout = 'w'

// make makes what the entry stands for, as base in the directory fd.
func (u *unpacker) make(fd int, real, base, name string, h *tar.Header) error {
	a, err := attributesOf(h, u.opts.Owners)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(fd, base, h, a)
	case tar.TypeDir:
		return u.directory(fd, path.Join(real, base), base, h, a)
	case tar.TypeLink:
		return u.link(base, path.Dir(name), h)
	case tar.TypeSymlink:
		err = u.create(fd, base, func() error { return unix.Symlinkat(h.Linkname, fd, base) })
	case tar.TypeFifo:
		err = u.create(fd, base, func() error { return unix.Mknodat(fd, base, unix.S_IFIFO|0o600, 0) })
	case tar.TypeChar: // isDevice let only 0/0 pass
		return u.whiteout(fd, base, name)
	case typeWhiteout:
		return u.whiteout(fd, base, name)
	default:
		return core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
			"the layer has an entry of the unknown type %q at %s", h.Typeflag, quote(name))
	}
	if err != nil {
		return failure(err, "making", name)
	}
	return a.setSpecial(fd, base, h)
}

// create makes base by way of how, in place of what is there.
func (u *unpacker) create(fd int, base string, how func() error) error {
	err := how()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := remove(fd, base); err != nil {
		return err
	}
	return how()
}

func (u *unpacker) file(dir int, base string, h *tar.Header, a attributes) error {
	var fd int
	err := u.create(dir, base, func() (err error) {
		fd, err = unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return failure(err, "making the file", h.Name)
	}
	err = u.contents(fd, h)
	if err == nil {
		err = a.setFile(fd, h)
	}
	if closeErr := unix.Close(fd); err == nil && closeErr != nil {
		err = failure(closeErr, "closing", h.Name)
	}
	return err
}

func (u *unpacker) contents(fd int, h *tar.Header) error {
	if u.buf == nil {
		u.buf = make([]byte, copyBuffer)
	}
	for left := h.Size; left > 0; {
		n, err := u.tar.Read(u.buf[:min(left, copyBuffer)])
		left -= int64(n)
		for rest := u.buf[:n]; len(rest) > 0; {
			w, err := unix.Write(fd, rest)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return failure(err, "writing", h.Name)
			}
			rest = rest[w:]
		}
		if err != nil && left > 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return tarError(err)
		}
	}
	u.stats.Bytes += h.Size
	return nil
}

func (u *unpacker) directory(dir int, real, base string, h *tar.Header, a attributes) error {
	err := unix.Mkdirat(dir, base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		err = u.redirect(dir, base)
	}
	if err != nil {
		return failure(err, "making the directory", h.Name)
	}
	err = eachXattr(h, func(name string, value []byte) error {
		return unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", dir, base), name, value, 0)
	})
	if err != nil {
		return err
	}
	return u.later(real, a)
}

// redirect makes base a directory where something is already: a directory
// stays, a whiteout turns into an opaque directory, the rest is replaced.
func (u *unpacker) redirect(dir int, base string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	if err := unix.Unlinkat(dir, base, 0); err != nil {
		return err
	}
	if err := unix.Mkdirat(dir, base, 0o700); err != nil {
		return err
	}
	if isWhiteout(&st) {
		return setOpaque(dir, base)
	}
	return nil
}

// link makes a hard link to an earlier entry of the same layer.
func (u *unpacker) link(base, dir string, h *tar.Header) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return err
	}
	missing := core.Invalid("the layer has %s as a hard link to %s, which is no file of that layer", quote(h.Name), quote(h.Linkname))
	if _, _, err := u.tree.open(path.Dir(target), false); err != nil {
		if core.IsKind(err, core.KindInvalid) {
			return missing
		}
		return err
	}
	from := u.tree.take()
	defer unix.Close(from)
	var was unix.Stat_t
	targetBase := path.Base(target)
	if err := unix.Fstatat(from, targetBase, &was, unix.AT_SYMLINK_NOFOLLOW); err != nil || isWhiteout(&was) || was.Mode&unix.S_IFMT == unix.S_IFDIR {
		return missing
	}
	to, _, err := u.tree.open(dir, true)
	if err != nil {
		return err
	}
	if same(to, base, &was) {
		return nil // a link to itself, or made before
	}
	if err := u.create(to, base, func() error { return unix.Linkat(from, targetBase, to, base, 0) }); err != nil {
		return failure(err, "making the hard link", h.Name)
	}
	return nil
}

// same reports whether base in dir is the file of which st tells.
func same(dir int, base string, st *unix.Stat_t) bool {
	var now unix.Stat_t
	err := unix.Fstatat(dir, base, &now, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && now.Ino == st.Ino && now.Dev == st.Dev
}

// whiteout hides base of lower layers. What this layer itself has there
// stays: the specification applies whiteouts to lower layers only.
func (u *unpacker) whiteout(dir int, base, name string) error {
	if base == "" || base == "." || base == ".." {
		return core.Invalid("the layer has a whiteout of nothing, %s", quote(name))
	}
	err := unix.Mknodat(dir, base, unix.S_IFCHR, 0)
	if !errors.Is(err, unix.EEXIST) {
		if err != nil {
			return failure(err, "making the whiteout", name)
		}
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return failure(err, "looking at", name)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil // hides what is below as it is
	}
	if err := setOpaque(dir, base); err != nil {
		return failure(err, "marking as opaque", name)
	}
	return nil
}

// root takes what the tar says of the layer's own directory.
func (u *unpacker) root(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return core.Invalid("the layer has %s in place of its root directory", quote(h.Name))
	}
	a, err := attributesOf(h, u.opts.Owners)
	if err != nil {
		return err
	}
	err = eachXattr(h, func(name string, value []byte) error {
		return unix.Setxattr(fmt.Sprintf("/proc/self/fd/%d", u.tree.root), name, value, 0)
	})
	if err != nil {
		return err
	}
	return u.later(".", a)
}

// impliedAttributes are those of a directory that the tar does not name.
func (u *unpacker) impliedAttributes() attributes {
	root, _ := u.opts.Owners.of(0)
	return attributes{uid: root, gid: root, mode: impliedMode}
}

// implied is told of a directory that the tar does not name.
func (u *unpacker) implied(real string) error {
	if err := u.count(0); err != nil {
		return err
	}
	return u.later(real, u.impliedAttributes())
}

// later notes the attributes of a directory.
func (u *unpacker) later(real string, a attributes) error {
	u.dirs[real] = a
	u.dirsSize += len(real) + 128
	if u.dirsSize < maxPendingDirs {
		return nil
	}
	return u.finish()
}

// finish sets the attributes that wait, children before their parents.
func (u *unpacker) finish() error {
	names := make([]string, 0, len(u.dirs))
	for name := range u.dirs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Backward(names) {
		if name == "." {
			continue
		}
		if err := u.settle(name); err != nil {
			return err
		}
	}
	if a, ok := u.dirs["."]; ok {
		if err := a.setDir(u.tree.root, "."); err != nil {
			return err
		}
	}
	clear(u.dirs)
	u.dirsSize = 0
	return nil
}

func (u *unpacker) settle(name string) error {
	fd, err := openBeneath(u.tree.root, name, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil // a later entry replaced it
	}
	if err != nil {
		return failure(err, "opening the directory", name)
	}
	defer unix.Close(fd)
	return u.dirs[name].setDir(fd, name)
}

// count checks an entry of n bytes against the bounds.
func (u *unpacker) count(n int64) error {
	u.stats.Entries++
	if u.opts.MaxEntries > 0 && u.stats.Entries > u.opts.MaxEntries {
		return core.Errorf(core.KindTooLarge, core.CodeTooLarge, "the layer has more than %d entries, the most a layer may have", u.opts.MaxEntries)
	}
	if n > u.opts.MaxBytes-headerSize-u.spent {
		return core.Errorf(core.KindTooLarge, core.CodeTooLarge, "the layer is larger than %s unpacked, the most a layer may be", core.Bytes(u.opts.MaxBytes))
	}
	u.spent += n + headerSize
	if u.opts.Room == nil {
		return nil
	}
	return u.opts.Room(n + headerSize)
}

// cleanName makes a relative, clean path of a name in a tar. A leading slash
// means the layer's root, as it does to other programs; ".." is refused, for
// no honest program writes it.
func cleanName(name string) (string, error) {
	switch {
	case name == "":
		return "", core.Invalid("the layer has an entry without a name")
	case strings.ContainsRune(name, 0):
		return "", core.Invalid("the layer has a zero byte in the name %s", quote(name))
	case len(name) > maxPath:
		return "", core.Invalid("the layer has a name of %d bytes, over the limit of %d: %s", len(name), maxPath, quote(name))
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", core.Invalid("the layer has %q in the name %s, which leads out of it", "..", quote(name))
		}
	}
	return path.Clean("./" + name), nil
}

// reserved looks for the names that are kept for whiteouts: entries of aufs
// are skipped, anything below a whiteout is refused.
func reserved(dir, base string) (skip bool, err error) {
	for part := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(part, aufsPrefix) {
			return true, nil
		}
		if strings.HasPrefix(part, whiteoutPrefix) {
			return false, core.Invalid("the layer has an entry below the whiteout %s", quote(dir))
		}
	}
	return strings.HasPrefix(base, aufsPrefix) && base != opaqueName, nil
}

func regular(h *tar.Header) bool {
	return h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeCont || h.Typeflag == tar.TypeGNUSparse
}

// isDevice reports whether the entry is a device node, other than 0/0, which
// is overlayfs's own way to write a whiteout.
func isDevice(h *tar.Header) bool {
	switch h.Typeflag {
	case tar.TypeBlock:
		return true
	case tar.TypeChar:
		return h.Devmajor != 0 || h.Devminor != 0
	}
	return false
}
