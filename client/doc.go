// Package client calls a Dayfly server.
//
// A [Client] has a method for each thing the REST API does, [Client.Invoke]
// to call a function by its URL, streaming both ways, and
// [Client.FollowLogs] to read a run's log while it grows.
//
// All methods may be called concurrently. What the server refuses is an
// [*Error]; a server that cannot be reached is [ErrUnreachable]; an answer
// that no Dayfly server gives is [ErrNotDayfly]. The context bounds a call,
// the client sets no limit of its own.
package client
