// Package userns makes a plain user's server root of a user namespace of its
// own, in which it may do what sandboxes need: make namespaces and mounts.
//
// [Enter] replaces the process by a small program (src/enter.c), which moves
// into a new user and mount namespace and then executes the server again. There
// is one process from the first to the last, with one number: signals, exit code
// and kill -9 are the server's own, and nobody has to pass anything on.
//
// # What there is of ids
//
// With newuidmap and newgidmap (the package uidmap) and a range for the user in
// /etc/subuid and /etc/subgid, the namespace has that range: id 0 is the user, 1
// and above are those of the range. Without, it has the one id of the user, and
// [State] says why. With one id no process can be of another user, and no file
// can belong to one; supplementary groups cannot be given up either
// (user_namespaces(7), "/proc/pid/setgroups").
package userns

//go:generate ./build.sh
