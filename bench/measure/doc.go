// Package measure takes the measurements, one function each. Each starts real
// servers as processes of their own, makes real calls over TCP, writes every
// sample down as it comes, and leaves nothing behind.
//
// Variants that are compared take turns within a round, so that what the
// machine does besides hits them alike; a ratio is one of a single round.
package measure
