// Package core holds the nouns of Dayfly: apps, functions, versions, images,
// instances, runs and their logs, with their validation and their states.
//
// It is pure: no I/O, no clock, no goroutine. Whatever needs the time gets it
// as a parameter. Every other package speaks in values of this one, and each
// noun's file has a namesake in every layer that deals with the noun.
package core
