// Package httpapi is Dayfly over HTTP: the REST API below /v1 and the URLs of
// functions below /f.
//
// What it gives: [New] makes the handler from the ports it needs, [NewServer]
// an http.Server with its limits. There is a file per noun, one table of
// routes (route.go) and one table of errors (problem.go). The OpenAPI
// document is generated from the routes; api/openapi.json is a copy that a
// test keeps in step.
//
// What it promises: every request but those for /healthz and /readyz passes
// the [Door] first. Every failure is a problem document (RFC 9457) with a
// stable code; what is Dayfly's own fault shows a request id and nothing
// else, and the cause stands in the log under that id. A body that goes to or
// comes from a function is streamed and never held. A call that fails after
// its answer has begun is cut off, so that no caller takes a part for the
// whole.
//
// What it does not promise: to bound the time or the body of a call; that is
// for the ports. Who may do what is decided behind them too.
//
// The handler may be called concurrently. [Handler.Close] ends the answers
// that last: those who follow a log are cut off and come back by themselves.
package httpapi
