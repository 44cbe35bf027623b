// Package pool keeps instances: it decides when one is started, who gets it,
// how long it waits for its next run, and who has to wait.
//
// # Words
//
// A line is a version of a function: its instances and the callers that wait
// for one, oldest first. A caller gets an idle instance at once; else the line
// starts one, as long as it has fewer than the function may have and the node
// has the memory, and never more than there are callers; whichever instance is
// free first, started or given back, goes to the oldest caller. A permit is
// the same for a job, whose instance lasts for one run only.
//
//	start ─▶ starting ──ready──▶ busy ◀──acquire── hot ──idle too long──▶ stopping
//	                              │ └────release────▲                       ▲
//	                              └────────killed, retired──────────────────┘
//
// # Promises
//
// The sum of the memory limits of all instances stays within Config.Memory:
// idle instances of others are ended, least recently used first, before a
// caller waits for memory, as many as that needs. A line holds at most
// limits.waiting callers, each for limits.wait at most; one whose own instance
// is being started then may wait for that, which limits.start bounds. A start
// that does not work is told to those who waited when it was decided. A line
// that holds nothing is forgotten. An instance whose process ends is never handed out.
// All methods may be called concurrently.
package pool
