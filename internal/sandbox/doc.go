// Package sandbox is the built-in driver: it runs functions in containers of
// its own making, on Linux, as root, with nothing else installed.
//
// # What it gives
//
// [Open] proves that the machine can do it and gives a [Driver], which is the
// port of internal/pool and the Dialer of internal/contract/web. Each instance
// is one process with its descendants in pid, mount, network, ipc, uts, cgroup
// and user namespaces of its own, with limits of memory, processor and
// processes, behind a system call filter, without capabilities or new
// privileges, on a read-only root made of its image's layers.
//
// # Words
//
//   - box: a sandbox without a function in it yet. A shelf keeps some ready.
//   - slot: a box's number. It decides user ids, network address and cgroup.
//   - init: the first process of a box, package pid1. It makes the mounts,
//     starts the function's process, reaps and reports.
//   - spawner: the small process that clones inits, children of the server.
//   - pump: moves what an instance prints to its streams.
//   - doorway: the thread that makes sockets inside the instances' networks (package netns).
//   - detached: an instance that outlives the server. The next one, with the
//     same directory, adopts it.
//
// # The life of a box
//
//	prepare ──► shelf ──► start ──► running ◄──► frozen
//	               │        │          │           │
//	               └────────┴──────────┴───────────┴──► ended ──► released
//
// Whatever ends init ends the kernel's whole sandbox: its processes by the pid
// namespace, its mounts by the mount namespace. What is left for the server to
// take away is the cgroup and the network link.
//
// # Promises
//
//   - Those of the interface pool.Driver, held to them by internal/drivertest.
//   - A function reaches nothing of the host but what its three streams lead
//     to and what its network lets through (package network).
//   - No mount is ever made in the host's mount namespace, whatever an image
//     has at /proc, /sys, /dev, /tmp or /etc.
//   - Close leaves nothing. What a killed server leaves, the next Open of the
//     same directory removes. Detached instances survive both.
//
// # What it does not promise
//
//   - Bounds on disk or network bandwidth.
//   - A detached instance is told of once: what its adopter was told and has
//     not written down is lost with the adopter.
//   - While no server runs, a detached instance has no name resolution. When
//     another opens, its link is made again with the same address, unless
//     somebody else has taken the addresses meanwhile.
//   - A Stdin whose Read does not return is waited for by nobody: the goroutine
//     that feeds it ends when it does.
//
// # Concurrency and failure
//
// All methods may be called at the same time, also Close, which waits for
// starts under way. A spawner that dies is replaced; a box whose init dies on
// the shelf is thrown away; a start that does not work leaves nothing and says
// why in words for the function's owner. Two drivers may run side by side with
// different directories; one directory is for one driver at a time, which the
// server sees to with a lock.
package sandbox
