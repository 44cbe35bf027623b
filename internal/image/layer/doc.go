// Package layer writes the tar of one image layer into a directory, as
// overlayfs wants it, and reads files out of a stack of such directories.
//
// # What it gives
//
// [Unpack] makes of a tar (uncompressed; digests are the caller's business) a
// directory that serves as a lower layer of an overlay: numeric owners, modes
// with the setuid, setgid and sticky bits, times, symbolic and hard links,
// fifos, the extended attributes user.* and security.capability. The
// whiteouts of the image format (https://github.com/opencontainers/image-spec/blob/main/layer.md)
// become those of overlayfs (https://docs.kernel.org/filesystems/overlayfs.html):
//
//	.wh.name       a character device 0/0 called name
//	.wh..wh..opq   trusted.overlay.opaque=y and user.overlay.opaque=y on the directory
//	.wh..wh.other  left out: notes of aufs, which no other file system reads
//
// [ReadFile] looks a path up as a process in the merged overlay would see it,
// without mounting anything.
//
// # Promises
//
//   - Nothing is made, changed or removed outside the directory, whatever the
//     bytes. Every operation names one path component in a directory that
//     openat2(2) opened beneath the layer's own; symbolic links in the middle
//     of a path are followed as in a chroot, never beyond the directory.
//   - Device nodes are never made. Those below dev/ are left out, since every
//     container gets its own /dev; elsewhere they are refused.
//   - Entries, bytes and free space are bounded by [Options]. Every directory
//     that is made counts as an entry, named in the tar or not, and no path is
//     longer than PATH_MAX, so that what was unpacked can be removed again.
//   - What a later entry says of a path replaces what an earlier one said.
//
// It does not promise to leave nothing behind when it fails: unpack into a
// directory of its own and remove that. It does not sync; that is cheaper once
// for many layers. The attributes user.overlay.* and trusted.* in a tar are
// dropped, since overlayfs would obey them.
//
// # Concurrency and failure
//
// Unpack may run for many directories at once, never twice for one, and
// nobody else may change the directory meanwhile. What is wrong in the tar is
// a core.Error of kind invalid (code invalid, or image_unsupported for what is
// well formed but not for us), what is over a limit of kind too_large, a full
// disk of kind unavailable with code disk_full. Any other error is the
// machine's.
//
// Without root, owners, trusted.* and capabilities are not kept: the kernel
// does not let them be set. Root of a user namespace keeps owners as [Owners]
// says. Whiteouts need no privilege since Linux 5.8.
package layer
