// Package server wires the parts of Dayfly into one program: configuration,
// stores, driver, services and the listener. It is the only package that
// knows everybody, and it decides nothing that a part could decide.
package server
