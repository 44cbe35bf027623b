// Package e2e tests the real program: dayfly is built, started as a process
// of its own and used the way people use it, by its commands, its API and its
// URLs, with real containers.
//
// The tests need root. They run in process, mount and network namespaces of
// their own, so that they neither touch the machine's network nor meet a
// server that runs on it, and so that what a killed server leaves behind can
// be counted to the last process.
//
// Most of what is deployed is one image, whose program is in
// testdata/misbehave and does what its first argument says.
package e2e
