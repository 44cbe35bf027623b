// Package rig holds what is measured in place: the workloads, the server under
// test, and looks at what processes use and leave behind.
package rig
