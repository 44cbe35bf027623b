// Package compile turns a system call policy into a classic BPF program for seccomp(2).
//
// It is the workshop behind internal/sandbox/seccomp: only its generator and its tests import it, so neither it nor the
// profile it reads is part of the product.
//
//	Default (the moby profile, resolved) -> Policy -> Compile -> []Instruction -> Marshal -> amd64.bpf, arm64.bpf
//
// A Policy is plain data: rules over system call numbers and arguments, and the answers for everything else. Compile
// lays it out as a binary search over number ranges, so that a call costs about log2(ranges) steps and not one step for
// each rule. Run interprets a program the way the kernel does; the generator and the tests use it to compare a program
// with the policy it came from.
//
// Everything here is a pure function except Numbers, which runs the go command and reads a source file. All of it may
// be called concurrently. A policy that cannot be expressed exactly is refused with an error, never approximated.
package compile
