// Package registry reads images from registries that speak the distribution
// specification (https://github.com/opencontainers/distribution-spec): it
// authenticates, asks what a name means, and reads manifests and blobs.
//
// # What it gives
//
// [Client.Open] speaks to a registry for the first time and gives a
// [Repository]; [Repository.Head] and [Repository.Manifest] ask for
// manifests, [Repository.Blob] opens a blob, from its middle on if need be.
// Handshake, tokens and challenges are those of go-containerregistry's
// transport.
//
// # Promises
//
//   - A registry is spoken to with TLS. Without, only when it is on a loopback
//     address or stands in [Options].Insecure, and then only when it does not
//     speak TLS. No redirect leaves TLS.
//   - Credentials go to the registry they are for, and where it sends for
//     tokens, to nobody else.
//   - A redirect to a loopback, private or link-local address is refused,
//     unless the registry itself is at such an address.
//   - What is read has a bound in bytes, and every wait has one in time: no
//     answer for [Options].Stall, or no byte of a body, is an error.
//   - Manifests that are asked for by digest are verified. Blobs are not: who
//     reads them does, since they may come in parts.
//
// # Errors
//
// All errors are [core.Error]: image_not_found when the registry has no such
// image, image_pull_failed with [core.KindInvalid] when it refuses, with
// [core.KindUnavailable] when it does not answer or not as it should. Messages
// name the registry, never a credential.
//
// All methods may be called concurrently.
package registry
