// Package socket reaches Unix sockets in a directory to which a process writes
// that is not trusted.
//
// Such a process can put anything there, and something else a moment later:
// links that lead out, to the sockets of the machine; files, pipes, directories.
// So no path is ever followed that it could change. [Dir] resolves a name to a
// descriptor of the socket itself, looks at what that is, and connects to the
// descriptor: what was looked at is what is connected.
//
// A name may be a symbolic link once, to another plain name in the same
// directory. That is how the function development kits of the Fn Project tell
// that they are ready: they bind another name, make it writable for everybody
// and then put the link in its place.
//
// All methods of a Dir may be called concurrently.
package socket
