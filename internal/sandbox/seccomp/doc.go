// Package seccomp gives the system call filter that every sandboxed process runs under.
//
// The filter is the moby default profile (github.com/moby/profiles, Apache-2.0), as Docker applies it to a container, for
// a process without any capability. It is compiled to classic BPF ahead of time, for each architecture, and embedded: a
// sandbox pays for one seccomp(2) and not for a compiler.
//
// # Words
//
// A filter is an array of struct sock_filter. The kernel runs it for each system call and takes its answer: ALLOW,
// ERRNO(n), which makes the call return n without being run, or KILL_PROCESS. "Denied" here means ERRNO(EPERM) unless
// stated otherwise, which is the profile's answer to everything that it does not allow.
//
// # Where it differs from the profile
//
//   - A call whose number is above the largest one in the profile returns ENOSYS, not EPERM. A C library that tries a new
//     call falls back to the old one on ENOSYS and gives up on EPERM. (runc does the same.)
//   - Only the native architecture is served. A call that comes through another entry (int 0x80 and 32-bit programs on
//     amd64, AArch32 on arm64) kills the process: its numbers mean other calls, and the profile for 32 bits leaves holes
//     (socketcall reaches the address families that socket denies). So 32-bit images do not run. x32 calls on amd64, which
//     share the architecture and have bit 0x40000000 set in the number, return ENOSYS as numbers above the largest.
//   - socket's address family is compared as the 32-bit int that the kernel takes it for. The profile compares 64 bits,
//     and 1<<32|AF_VSOCK passes that comparison and opens an AF_VSOCK socket.
//   - Rules for a minimum kernel version are resolved for 5.11 and not for the kernel at hand. In effect: ptrace,
//     process_vm_readv and process_vm_writev are allowed, as the profile does from 4.8 on, where a tracer can no longer
//     change a call after the filter has seen it.
//
// Kept from the profile and relied upon: io_uring_*, keyctl, add_key, request_key, bpf, userfaultfd, perf_event_open,
// kexec_*, mount and its newer relatives, setns, unshare and clone with a namespace flag are denied; socket denies
// AF_VSOCK and AF_ALG; personality allows only the harmless ones. clone3 returns ENOSYS, because its flags are in memory
// where a filter cannot look; C libraries then use clone.
//
// # Promises
//
// The filter only ever answers as described above, for every number and argument; the tests compare it with the profile.
// It is below the kernel's limit of 4096 instructions by an order of magnitude and takes about ten instructions for a
// call. From Linux 5.11 on, the kernel remembers which numbers are always allowed and skips the filter for them; the
// filter uses only operations that this shortcut understands.
//
// It does not promise to hold a process in by itself: namespaces, dropped capabilities and no_new_privs are its company,
// and without no_new_privs or CAP_SYS_ADMIN the kernel refuses to load it. A process that must make denied calls (mount,
// pivot_root) makes them before it loads the filter. Children inherit the filter and nothing removes it.
//
// Filter is safe to call concurrently and fails only on an architecture without a filter.
//
// # Making the filters anew
//
// After an upgrade of github.com/moby/profiles/seccomp or a change in the compile package:
//
//	go generate ./internal/sandbox/seccomp
//
// This writes amd64.bpf and arm64.bpf, on any machine; a test fails while they are out of date. The profile and the
// compiler are imported by the generator and the tests only and are not part of the product.
package seccomp

//go:generate go run ./gen
