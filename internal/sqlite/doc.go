// Package sqlite keeps definitions and runs in one SQLite file.
//
// [Store] implements the storage ports of the services; internal/storetest
// holds it to them. The rows are:
//
//	apps, functions, versions      what is defined; revision counts changes
//	deleted_functions              what was deleted, for followers of changes
//	live_runs                      runs that go on
//	runs_0001, runs_0002, ...      runs that ended, by period; run_periods
//	run_counters                   how many ended in which state, ever
//	function_names, words          what runs name by a number
//
// # Promises
//
// A method that returns without an error has its change on disk (WAL,
// synchronous=FULL); one that returns an error has changed nothing. The
// process may be killed at any instant. Each read sees one instant. A run
// that has ended does not go back to running, whatever order its rows come
// in. Lists and counters cost the same at ten million runs as at ten: pages
// are found by key, a search stops after a bounded number of rows and says
// how far it came, and nothing is counted by looking.
//
// # Not promised
//
// Old runs go by period, a whole table at a time: up to one period more than
// was asked for is kept, and the file does not shrink; what becomes free in
// it is used again. A page of a list is of one instant, two pages are not.
//
// # Concurrency and failure
//
// All methods may be called concurrently. Writes gather in front of one
// writer and share transactions. A full disk is [core.KindUnavailable] with
// the code disk_full; reads go on, and writes work again when there is space.
package sqlite
