//go:build !unix

package web

// probe cannot look without waiting here, so that no connection is kept.
func (cn *conn) probe(uintptr) bool {
	cn.silent = false
	return true
}
