// Package web is the contract http: the image is a web server on $PORT, and
// requests are passed on to it, streamed both ways. Instances stay hot.
//
// It has an HTTP/1.1 client of its own, since this is the hottest path of
// the product: a call without a large body takes one write, as few reads as
// the answer comes in, no goroutine and a handful of allocations. What it
// accepts as an answer is a subset of what net/http accepts; FuzzResponse
// holds it to that.
//
// # One exchange
//
//	head written ─► small body read from the caller ─► connection taken or made
//	      ─► one write ─► 1xx handled ─► head read and checked whole
//	      ─► head, body and trailers passed on ─► connection kept, or closed
//	      ─► or, with status 101, bytes passed both ways until both sides end
//
// A body over 16 KiB or of unknown length is sent by a goroutine that
// [Contract.Serve] owns, while the answer is read: a function that answers
// before it has read everything is heard, and the rest is not sent. A body
// whose caller waits for 100 (Continue) goes when the function asks for it, or
// has said nothing for a second.
//
// Of interim answers 100 does that, 103 (Early Hints) is passed on, and others
// are skipped. Trailers go both ways, without those that frame, route or
// authenticate a message and without Dayfly's own, which are dropped.
//
// # Other protocols
//
// A request of HTTP/1.1 without a body may offer to switch to another protocol
// (Upgrade, RFC 9110, 7.8): WebSocket or any other but HTTP/2 and TLS, which
// are between neighbours. The function gets the offer as it is, and may take
// one of what was offered. Then bytes pass both ways:
//
//   - The call's deadline bounds the connection as it bounds any answer, and
//     is a timeout when it comes.
//   - A side that ends is told to the other, which may go on, for as long as
//     it does not fall silent: 30 seconds after the caller's end, 5 after the
//     function's. When both have ended, whoever was first, the run has
//     succeeded. A process that dies without a trace of it on the connection
//     looks the same.
//   - A caller that breaks the connection (a reset) has gone away; the function
//     sees its end of the connection close, and is not killed for it.
//   - Ten minutes without a byte from either side are a timeout as well, after
//     which the instance goes on.
//
// # Promises
//
//   - Nothing of an answer goes out before its whole head has been found to
//     be good. An answer with a length that fits into the buffer goes out
//     only when it is all there.
//   - The function sees neither hop-by-hop fields nor the caller's own
//     Dayfly-Run-Id, Dayfly-Attempt, Dayfly-Deadline and Dayfly-Trigger, also
//     not in the spelling with underscores that CGI takes for the same.
//   - What a function sends beside its answer reaches no later caller: a
//     connection with bytes left over, or on which bytes came while nothing
//     was asked, is closed.
//   - Bytes of heads, interim answers and trailers are bounded by the
//     function's limits.headers; everything else streams through one buffer.
//   - What arrived of an answer without a length, or of text/event-stream, is
//     flushed before the next read.
//
// # When a request is sent twice
//
// A kept connection may be closed by the function at the moment a request is
// written to it. The request is sent once more, on a new connection, if the
// first was a kept one, no byte of an answer has come, nothing of a streamed
// body has been read, and either nothing at all was written or the method is
// idempotent (RFC 9110, 9.2.2: GET, HEAD, OPTIONS, TRACE, PUT, DELETE).
// Whether a function has begun to work on a POST cannot be seen, so that one
// fails. So that this is rare, a kept connection is looked at before use, and
// one that has been idle for a second is not used. A web server that was
// frozen closes what was idle for too long in the moment it thaws, just when a
// request is written: before an instance is frozen, its connections are closed
// from this side ([Contract.Disconnect]).
//
// # Not promised
//
// WebSockets over HTTP/2 (RFC 8441) are not there: no such connection is told
// that it may ask for one. Bodies are neither compressed nor decompressed. HTTP/2 is not spoken with
// the function. A function that answers before it has been asked, after its
// connection was looked at, fools only its own callers.
//
// # Use
//
// All methods of [Contract] may be called concurrently, also for one
// instance. Serve waits for the goroutine that reads the caller's body; for
// it to end with the deadline also when the caller sends nothing, the body
// has a method SetReadDeadline(time.Time) error, and a reply whose caller may
// read nothing has SetWriteDeadline(time.Time) error, as a net.Conn has (a
// run that is cancelled while its caller reads nothing ends with the deadline
// at the latest). Body and reply are used at the same time by two goroutines:
// behind net/http's server this needs ResponseController.EnableFullDuplex.
//
// A reply that can send trailers has a method SetTrailer(core.Header) error,
// one that can switch protocols Switch() (net.Conn, error). Without them
// trailers are dropped, and offers to switch are not passed on.
//
// # Failure
//
// Every failure is an [core.Outcome] with a message for people. Where Cut is
// set, the caller has got a part of an answer, and its connection is to be cut
// so that it notices.
package web
