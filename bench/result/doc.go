// Package result keeps what was measured: every single value, with the
// machine it was taken on, as lines of JSON in a file per run of a measure.
//
// The first line describes machine and run, each further one is a sample or a
// note. Nothing is thrown away or summed up before it is written; summaries
// are made from the file.
package result
