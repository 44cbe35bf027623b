// Package invoke is the use case of calling a function and of looking at what
// became of the call.
//
// A call finds the function in the catalog, gets an instance from the pool,
// hands both to the function's contract, gives the instance back, and leaves
// the record to a batching writer. On that path there is no database, no wait
// for a disk, and no lock that functions share but those of maps.
//
// A run that has not been written yet is in memory, and every read sees it
// there: a list has it in its place. While the store does not take what is
// written, runs are kept in memory up to a bound, and calls beyond it are
// refused with the store's error; it goes on by itself when the store does. What is written later than it
// happened can be lost with the server: a waiting call dies with its server
// anyhow. A run that began with a cold start, or has gone on for a second, is
// written down while it runs, so that the next server can tell that it was
// interrupted.
//
// All methods of [Service] may be called concurrently.
package invoke
