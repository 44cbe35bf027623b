// Package archtest holds the tree to its shape. It has tests only: which
// package may import which, that the nouns have files of their names, and
// that what the documents say of the tree is so.
//
// The table of layers is rows in layer_test.go; ARCHITECTURE.md tells what
// the layers are for, and .golangci.yml says the same to editors. Where the
// two differ, this test is right.
package archtest
