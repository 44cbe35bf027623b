// Package catalog holds the definitions of all functions in memory, so that a
// call finds its function without asking the store. It follows the store's
// changes: at once for those made through this server (Refresh), and within
// the polling interval for those made by another.
//
// Find takes no lock that others wait on; Refresh may be called by many.
package catalog
