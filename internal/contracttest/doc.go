// Package contracttest holds what every contract promises to who calls it,
// as a suite of tests. A contract runs it with processes that behave in the
// few ways the suite asks for.
package contracttest
