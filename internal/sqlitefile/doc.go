// Package sqlitefile gives a SQLite database file with one writer.
//
// All writes go through [File.Write] to one goroutine, which takes whatever
// has gathered since its last commit and commits it as one transaction: under
// little load each write is a transaction of its own and waits for nobody,
// under much load hundreds share one fsync. Reads go through [File.Read] to a
// pool of read-only connections; each sees one snapshot and holds nobody up.
//
// It promises that a write that was answered without an error has been
// committed, and with the synchronous mode FULL is on disk; that a write that
// was answered with an error has left nothing; and that writes are done in
// the order in which they came. It does not promise that a write runs only
// once: when a shared transaction breaks, each of its writes is done again
// alone, so what a write does besides the database must bear repetition.
//
// All methods of File may be called concurrently. A [Tx] belongs to the
// function it was handed to.
//
// A full disk is [ErrFull]. The transaction is rolled back, reads go on, and
// the next write tries again.
package sqlitefile
