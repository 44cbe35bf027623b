// Package memory keeps definitions, runs and logs in memory, for tests and
// for servers whose state may go with them.
//
// [Store] and [Logs] pass the same suite as the stores on disk
// (internal/storetest), so a service that works over them works over those.
// What is asked is answered by looking at everything: the cost grows with the
// number of rows, which is not so elsewhere. Nothing is written anywhere.
//
// All methods may be called concurrently; one mutex guards each store. What
// goes in and out is copied, so that nobody can change what is kept. No
// method fails but for what is asked of it.
package memory
