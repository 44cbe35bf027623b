// Package drivertest is what every driver promises, as tests.
//
// A driver's own test calls [Run] with a function that opens the driver; each
// subtest is named after the promise of pool.Driver (and of web.Dialer) that it
// checks. They share the driver and run side by side, as instances do.
//
// The functions in the instances are all one program, package misbehave beside
// this one, which [Program] builds; [Base] is the image of it, for tests of a
// driver's own.
package drivertest
