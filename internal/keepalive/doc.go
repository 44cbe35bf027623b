// Package keepalive tells which idle instances are worth their memory, and
// when one that keeps dying is started again. Its functions are pure: the time
// is passed in.
//
// The worth is that of greedy-dual caching with sizes and frequencies (Cherkasova,
// HPL-98-69R1, 1998), which Fuerst and Sharma found to fit instances
// ("FaasCache", ASPLOS 2021):
//
//	priority = clock + uses x cost / size
//
// uses are those of the instance, of which half are forgotten each [HalfLife];
// cost is what it takes to start another one; size is its memory. The clock is
// the highest priority that was ended so far: what has not been used since the
// clock stood low is ended some time, whatever it was worth once.
package keepalive
