// Package logstore keeps what functions print in a SQLite file of its own.
//
// [Store] implements the log ports of the services; internal/storetest holds
// it to them. A chunk of lines is one row, its lines packed, in the current of
// the tables log_chunks_0001, log_chunks_0002, ...; old logs go a whole table
// at a time, by age or when all together take too much.
//
// # Promises
//
// Lines that were appended without an error outlive the process, also by
// kill -9; an append that returns an error has left nothing. Lines of a run
// come back in the order of their sequence.
//
// # Not promised
//
// A loss of power may take the lines of the last moments (WAL,
// synchronous=NORMAL): a log is not worth an fsync. Instants are kept in whole
// microseconds. The file does not shrink; what becomes free in it is used
// again.
//
// # Concurrency and failure
//
// All methods may be called concurrently. Appends gather in front of one
// writer and share transactions. A full disk is [core.KindUnavailable] with
// the code disk_full; reads go on, and appends work again when there is space.
package logstore
