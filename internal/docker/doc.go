// Package docker is the driver of a Docker engine: it runs functions in
// containers that an engine of the API 1.41 or later makes (Docker 20.10 and
// newer), on this machine or another.
//
// # What it gives
//
// [Open] connects to the engine, proves that it can run functions and gives a
// [Driver], which is the port of internal/pool and the Dialer of
// internal/contract/web and internal/contract/fdk. [Driver.Images] is the port
// of internal/deploy: the engine keeps the images.
//
// # Words
//
//   - engine: the Docker daemon, with what is ours in it.
//   - init: the first process of every container, package pid1. It starts the
//     function, passes its streams, reaps and reports.
//   - frame, channel, link: how driver and init talk, through the stdin and
//     stdout of the container, which the engine carries.
//   - box: a container whose init runs and waits to be told what to start.
//   - local: the engine's processes are those of this machine, and the server may
//     step into their namespaces (it is root). Everything else is elsewhere.
//
// # Why an init of our own
//
// What an engine tells of a process is not enough: not whether a program could be
// executed once there is any init, nor whether exit code 137 was a signal, nor
// when all that was printed has arrived. Its own init tells none of that either.
// Ours is 13 KB, in a volume that all containers mount read-only, and stands
// between the function and the streams of the container. So
//
//   - a start fails with the reason the kernel gave, exits and signals are told
//     apart, and Drain and Usage are answered by one frame;
//   - arguments and environment, with the secrets in it, go to init and never to
//     the engine, whose API would show them to everybody who may ask;
//   - the function's code runs only after its network has its rules;
//   - connections can be made by init, and carried through the same stream. No
//     port is ever published, and an engine elsewhere is reached like one here;
//   - when the server is killed its connections to the engine close, every init
//     sees the end of its stdin and ends, and the engine removes the container.
//
// # The life of a box
//
//	create ──► attach ──► start ──► HELLO ──► network ──► CONFIG ──► running ◄──► frozen
//	                                                                     │          │
//	                                    removed ◄── engine ◄── QUIT ◄── EXIT ◄──────┘
//
// # The network
//
// With a local engine containers have none of the engine's networks. While init
// waits, their namespace is attached to the network that sandboxes have (package
// sandbox/network), with the same policy: the rules stand in one nftables table
// of ours, neither Docker's bridge nor iptables are in it, and a start saves the
// 30 ms that the bridge takes. Elsewhere there is a bridge of the engine for each
// data directory, on which containers do not reach each other; that they do not
// reach the engine's machine is not promised, and [Driver.Capabilities] says so.
//
// # Promises
//
//   - Those of the interface pool.Driver, held to them by internal/drivertest,
//     with an engine here and one elsewhere.
//   - No capability, no new privileges, read-only root, masked paths of the
//     engine, the system call filter of sandboxes, limits of memory (without
//     swap), processor, processes and open files, nothing on the engine's disk.
//   - Only what has the label of this data directory is ever removed. The label
//     is a random number, so that servers of other machines may use one engine.
//   - Close leaves nothing. What a killed server leaves, the next Open of the
//     same directory removes.
//
// # What it does not promise
//
//   - Bounds on disk or network bandwidth; /dev of a container is writable to
//     root in it, in memory.
//   - A VOLUME of an image is an empty directory in memory.
//   - Instances that outlive the server, writable roots, directories of the host.
//   - What is printed between the beginning and the end of a Freeze is written
//     after the thaw.
//   - A Stdin whose Read does not return is waited for by nobody: the goroutine
//     that feeds it ends when it does.
//
// # Concurrency and failure
//
// All methods may be called at the same time, also Close, which waits for starts
// under way. A start that does not work leaves nothing. When an engine is
// restarted its containers end, and their instances with them; starts fail as
// unavailable until it answers again.
package docker
