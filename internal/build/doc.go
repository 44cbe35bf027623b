// Package build makes a container image from source, one file per runtime.
//
// What it makes is reproducible: the same source and the same compiler give
// the same bytes and so the same digest, in whatever directory and on
// whatever day. Nothing of the host but the compiler goes in.
//
// It runs the compiler of the host as the user who calls, with that user's
// environment: it is for source that the user trusts. Builds may run
// concurrently. A build that fails or is interrupted leaves nothing behind;
// one that succeeds leaves a temporary directory that [Image.Close] removes.
package build
