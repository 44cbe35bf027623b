// Package storetest is what every store promises, as tests.
//
// A store's own test calls [Definitions], [Runs] or [Logs] with a function
// that opens an empty store; each subtest is named after the promise it
// checks and opens its own. The interfaces say which ports of the services a
// store must have, so that a store that lacks a method does not compile here.
package storetest
