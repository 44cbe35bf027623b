// Package maintain is the use case of keeping the data directory in bounds: it
// forgets old runs and logs, and ends the runs that a server left unfinished.
package maintain
