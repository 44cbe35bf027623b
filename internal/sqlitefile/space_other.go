//go:build !linux && !darwin

package sqlitefile

// spaceIsScarce cannot be told here; SQLite's own word has to do.
func (f *File) spaceIsScarce() bool { return false }
