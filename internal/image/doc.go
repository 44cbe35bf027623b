// Package image keeps the container images of one server: it takes them from
// tars, verifies them, unpacks each layer once and hands the directories to
// the sandbox driver.
//
// # What it gives
//
// [Store.Load] reads what docker save and OCI tools write; [Store.Image] and
// [Store.Images] tell what there is; [Store.Rootfs] and [Store.Acquire] give
// the driver the directories of an image, lowest first, fit to be the lower
// layers of an overlay; [Store.User] finds out whom an image runs as;
// [Store.Remove] and [Store.GC] free space. Package pack, beside this one,
// writes such tars; package layer unpacks one layer.
//
// # On disk
//
//	images/<hex of manifest digest>.json   manifest, config, layers; one file is one image
//	names/<hash of the full name>.json     a name and the digest it stands for
//	layers/<hex of diff ID>/               the unpacked layer, complete if it is there
//	tmp/                                   work in progress and what is being removed
//
// The files are small, written aside and renamed. Layers are synced before
// their rename, and renamed before the image that uses them is written: what
// Load has answered survives a power cut, and an image is never there without
// its layers. What a crash leaves in tmp, and layers no image uses, go at the
// next [Open].
//
// # Promises
//
//   - Every digest is verified: manifest, config, each layer as it is in the
//     tar and each layer unpacked.
//   - A load that is refused leaves nothing behind.
//   - Whatever an image holds, nothing outside its layers' directories is
//     touched, and bytes, entries, compression ratio and free disk space are
//     bounded by [Options].
//   - An image that is acquired keeps its layers until it is released.
//   - Looking up an image, its layers or its user reads no disk after the
//     first time.
//
// It does not promise that a layer stays as it was unpacked: whoever may
// write to the data directory may change it, and it is not verified again.
//
// # Concurrency and failure
//
// All methods may be called concurrently; one process at a time may have a
// directory open. Loads take in their tars side by side and unpack one after
// the other, two layers at a time. A metadata file that cannot be read is
// logged and told by [Store.Problems]; the rest works, and loading the image
// again mends it.
package image
