// Package cli is the command line of Dayfly: one file per noun, a function
// per verb.
//
// What was asked for goes to standard output, and nothing else does: tables
// for people, the wire form of the API with --json. Chat and errors go to
// standard error. The exit codes are the ones of exit.go, and a wrong command
// line is told in a line or two, not with the whole help.
//
// The commands know the server only by package client, so that whatever they
// do, anybody's program can do. Those that need the server's own packages are
// handed in by cmd/dayfly.
package cli
