// Package manifest reads dayfly.yaml, the file that says which functions an
// app has and what each is made of.
//
// It gives a [File] whose values have been checked, or an error that names
// file, line, column and key of everything that is wrong, what is allowed
// there, and for an unknown key the known one that is nearest. It does no I/O
// but in [Read], starts nothing and keeps nothing; everything may be called
// concurrently.
//
// The structs of this package are the schema: the names and types of their
// fields decide what may stand in the file, and docs/dayfly.schema.json is
// generated from them for editors. A key is added here on the day it works.
//
// The file may come from a stranger. One over [MaxSize], nested deeper than
// the format needs, or with anchors, aliases, tags or merge keys is refused
// before anything is built of it, so that reading costs time and memory in
// proportion to its size.
package manifest
