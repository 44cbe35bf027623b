// Package front stands before a server of net/http and answers the requests
// that are most frequent and most plain: those of HTTP/1.1 with a path below
// one prefix, a small head, and a body that is short or none. Everything else
// it hands to net/http, with the connection and every byte that came.
//
// It is there because net/http does for each request what only some need: it
// starts a goroutine that watches for the caller's leaving, sets some seven
// deadlines, and copies the header twice. Here a watcher is started only for
// a request that takes longer than a twentieth of a second, times are kept by
// one clock that ticks as often, and a request costs one allocation.
//
// # What is plain
//
//	GET /prefix/path?query HTTP/1.1   methods by name; a path that needs no escaping
//	Host: name:port                   exactly one
//	Name: value                       lines that end with CRLF, 64 at most, 8 KiB in all
//	Content-Length: 5                 one or none, 16 KiB at most, and that body here within a second
//	Connection: keep-alive            or close, or none
//
// A request with Transfer-Encoding, Upgrade, Expect, Trailer or Pragma is not,
// nor one in which anything could be read in two ways. The parser says no
// more than that; what is wrong, and what is answered, net/http decides. So
// this package accepts no request that net/http would not, and reads each as
// net/http does: FuzzHead holds it to that.
//
// # Promises
//
//   - A connection that has been handed over does not come back.
//   - The handler's writer has what one of net/http has for HTTP/1.1, but
//     Hijack and EnableFullDuplex: those requests are not plain. The body is
//     here when the handler is called.
//   - Request, URL, header and body are used again for the next request of the
//     connection. A handler must not keep them after its return; strings in
//     them may be kept.
//   - The context of a request is that of its connection. It ends when the
//     caller closes the connection while a request is under way, some tenths of
//     a second late at the most, and when the connection ends.
//   - A caller that sends no whole head within the limit of the server's
//     ReadHeaderTimeout, or does not take the end of an answer within a minute,
//     is cut off; so is one that is idle for longer than IdleTimeout.
//
// # Use
//
// [New] makes a [Server] of an http.Server, which must not be used otherwise.
// Serve, Shutdown and Close are as those of net/http. TLS is not spoken.
package front
