// Package load makes requests and measures them: one at a time with the
// instant of the first byte, or as many as go, by wrk or by a client of its
// own.
package load
