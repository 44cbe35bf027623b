// Package fdk is the contract fdk, that of the Fn Project ("http-stream"): the
// image listens on a Unix socket and is sent one request at a time, so that
// images built with any of Fn's function development kits run unmodified.
//
// It is HTTP/1.1, and the client is that of package web. What this package adds
// is where the process listens, what requests and answers look like, and what
// an answer means.
//
// # The process
//
// runs as user 1000, group 1000, with the variables of [Contract.Prepare]. It
// makes a socket in /tmp/iofs, which is a file system of its own, and puts a
// link to it at FN_LISTENER when it is ready. Of names in that directory only
// sockets are connected to, and links only if they lead to another name in it
// (package socket).
//
// # Requests
//
//	POST /call HTTP/1.1
//	Host: localhost
//	Transfer-Encoding: chunked      unless there is no body
//	Fn-Call-Id: run_...
//	Fn-Deadline: 2026-01-02T15:04:05Z
//	Dayfly-Run-Id, Dayfly-Attempt, Dayfly-Deadline, Dayfly-Trigger, Traceparent, Forwarded
//
// A run that an HTTP request to the function's own URL has started looks as
// one of Fn's triggers:
//
//	Fn-Intent: httprequest
//	Fn-Http-Method: PUT
//	Fn-Http-Request-Url: http://host/f/app/function/path?query
//	Content-Type                    the caller's
//	Fn-Http-H-NAME                  every other field of the caller's
//
// Any other run looks as Fn's plain invocation: the caller's fields are passed
// on under their own names, but for those above.
//
// # Answers
//
//	200  the function has answered
//	502  it failed: function_error; its instance is kept
//	504  it ran out of time: timeout; its instance is kept
//	else no answer of a development kit: function_error; its instance is ended
//
// Of an answer with 200, the caller at the function's URL gets Content-Type,
// the fields Fn-Http-H-NAME under the name NAME, the status that Fn-Http-Status
// says, and nothing else. Where that status is 500 or more, the run has failed,
// as with the contract http. The caller of a plain invocation gets all fields,
// and 200. The body of an answer with another status is dropped.
//
// # Where Fn does otherwise
//
//   - Answers are streamed, and not gathered in memory first.
//   - Fn-Deadline has whole seconds, as there. Under ten seconds it is rounded
//     up and not down: a function of a second would often be told that it has
//     no time left.
//   - FN_APP_NAME and FN_FN_NAME are set.
//   - A socket that nobody listens on yet is tried again.
//   - Of a status that the function sets, 100 to 199 and what is no status are
//     an invalid answer.
//
// Trailers and interim answers are dropped, and a caller cannot switch
// protocols: it is so in Fn, whose kits have neither.
//
// Kept connections are used for a second only, as in package web and in Fn
// itself, where some kits close idle connections at the wrong moment
// (https://github.com/fnproject/fn/issues/1470).
//
// # Use
//
// All methods of [Contract] may be called concurrently, but one instance is
// given one call at a time; what package web says of body and reply holds here.
package fdk
