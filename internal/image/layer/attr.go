package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
)

// The attributes by which overlayfs knows an opaque directory: the first is
// read on an ordinary mount, the second on one made with userxattr, in a user
// namespace.
const (
	trustedOpaque = "trusted.overlay.opaque"
	userOpaque    = "user.overlay.opaque"
	capability    = "security.capability"
)

// paxXattr is the prefix of extended attributes in PAX records, after the
// star program; Go's, GNU's and BSD's tar write it.
const paxXattr = "SCHILY.xattr."

// maxID is the largest user and group id; the one above it means "leave it"
// to the kernel.
const maxID = 1<<32 - 2

// asRoot tells whether owners can be set, trusted whether trusted attributes
// and capabilities too: those the kernel takes from root of the machine only,
// not from root of a user namespace (user_namespaces(7)).
var (
	asRoot  = os.Geteuid() == 0
	trusted = asRoot && inInitialNamespace()
)

// inInitialNamespace reports whether every id is one's own here.
func inInitialNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return true // a kernel without user namespaces
	}
	f := strings.Fields(string(b))
	return len(f) == 3 && f[0] == "0" && f[1] == "0" && f[2] == "4294967295"
}

// Owners says to whom the files of layers belong on disk. Zero: to those the
// layers name. A server in a user namespace has a range of ids for them; its
// sandboxes see the first of it as 0.
type Owners struct {
	// First is the id that stands for 0.
	First uint32
	// Count is how many there are; with 1 every file belongs to First.
	Count uint32
}

// of gives the id on disk of an id in a layer.
func (o Owners) of(id int) (int, bool) {
	switch o.Count {
	case 0:
		return id, true
	case 1:
		return int(o.First), true
	}
	return int(o.First) + id, id < int(o.Count)
}

// attributes are what a tar says of a file besides its contents.
type attributes struct {
	uid, gid int
	mode     uint32
	times    [2]unix.Timespec
}

func attributesOf(h *tar.Header, o Owners) (attributes, error) {
	if h.Uid < 0 || h.Uid > maxID || h.Gid < 0 || h.Gid > maxID {
		return attributes{}, core.Invalid("the layer gives %s to user %d and group %d; they may be 0 to %d", quote(h.Name), h.Uid, h.Gid, maxID)
	}
	uid, ok1 := o.of(h.Uid)
	gid, ok2 := o.of(h.Gid)
	if !ok1 || !ok2 {
		return attributes{}, core.Errorf(core.KindInvalid, core.ReasonImageUnsupported,
			"the layer gives %s to user %d and group %d, and this server has the ids up to %d: give its user a larger range in /etc/subuid and /etc/subgid",
			quote(h.Name), h.Uid, h.Gid, o.Count-1)
	}
	at := unix.Timespec{Sec: h.ModTime.Unix(), Nsec: int64(h.ModTime.Nanosecond())}
	return attributes{uid: uid, gid: gid, mode: uint32(h.Mode) & 0o7777, times: [2]unix.Timespec{at, at}}, nil
}

// setFile sets the attributes of an open file. The owner comes first: chown
// clears the setuid bits and the capabilities.
func (a attributes) setFile(fd int, h *tar.Header) error {
	if asRoot {
		if err := unix.Fchown(fd, a.uid, a.gid); err != nil {
			return failure(err, "setting the owner of", h.Name)
		}
	}
	if err := unix.Fchmod(fd, a.mode); err != nil {
		return failure(err, "setting the mode of", h.Name)
	}
	err := eachXattr(h, func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) })
	if err != nil {
		return err
	}
	if err := unix.UtimesNanoAt(fd, "", a.times[:], unix.AT_EMPTY_PATH); err != nil {
		return failure(err, "setting the time of", h.Name)
	}
	return nil
}

// setSpecial sets the attributes of a symbolic link or fifo, neither of which
// is opened.
func (a attributes) setSpecial(dir int, base string, h *tar.Header) error {
	if asRoot {
		if err := unix.Fchownat(dir, base, a.uid, a.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return failure(err, "setting the owner of", h.Name)
		}
	}
	if h.Typeflag == tar.TypeFifo {
		// The base was made a moment ago and is no symbolic link.
		if err := unix.Fchmodat(dir, base, a.mode, 0); err != nil {
			return failure(err, "setting the mode of", h.Name)
		}
	}
	if err := unix.UtimesNanoAt(dir, base, a.times[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return failure(err, "setting the time of", h.Name)
	}
	return nil
}

// setDir sets the attributes of a directory that is open with O_PATH.
func (a attributes) setDir(fd int, name string) error {
	if asRoot {
		if err := unix.Fchownat(fd, "", a.uid, a.gid, unix.AT_EMPTY_PATH); err != nil {
			return failure(err, "setting the owner of", name)
		}
	}
	if err := unix.Fchmodat(fd, ".", a.mode, 0); err != nil {
		return failure(err, "setting the mode of", name)
	}
	if err := unix.UtimesNanoAt(fd, ".", a.times[:], 0); err != nil {
		return failure(err, "setting the time of", name)
	}
	return nil
}

// eachXattr calls set for the attributes of an entry that are kept.
func eachXattr(h *tar.Header, set func(name string, value []byte) error) error {
	if len(h.PAXRecords) == 0 {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || !keepXattr(name) {
			continue
		}
		err := set(name, []byte(h.PAXRecords[key]))
		switch {
		case err == nil:
		case errors.Is(err, unix.ENOTSUP) && name != capability:
			// A file system without user attributes; programs cope.
		case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.E2BIG), errors.Is(err, unix.ERANGE):
			// ext4 says "no space" for an attribute over one block.
			return &core.Error{
				Kind: core.KindInvalid, Code: core.ReasonImageUnsupported, Err: err,
				Message: fmt.Sprintf("the extended attributes of %s are larger than the server's file system takes", quote(h.Name)),
			}
		default:
			return failure(err, "setting the attribute "+strconv.Quote(name)+" of", h.Name)
		}
	}
	return nil
}

func keepXattr(name string) bool {
	if name == capability {
		return trusted
	}
	return len(name) <= 255 && strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// setOpaque marks the directory base in dir as hiding what lower layers have
// in it; base may be ".".
func setOpaque(dir int, base string) error {
	// An O_PATH descriptor takes no fsetxattr; the link in /proc leads to the
	// directory that is open, and base is a single component in it.
	full := fmt.Sprintf("/proc/self/fd/%d/%s", dir, base)
	if trusted {
		if err := unix.Lsetxattr(full, trustedOpaque, []byte("y"), 0); err != nil {
			return err
		}
	}
	err := unix.Lsetxattr(full, userOpaque, []byte("y"), 0)
	if errors.Is(err, unix.ENOTSUP) && trusted {
		return nil
	}
	return err
}
