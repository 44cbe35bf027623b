// Package pool keeps instances: it decides when one is started, who gets it,
// how long it waits for its next run, when it is frozen, and who has to wait.
//
// # Words
//
// A line is a version of a function: its instances and the callers that wait
// for one, oldest first. A caller gets an instance that has room at once; else
// the line starts one, as long as it has fewer than the function may have and
// the node has the memory, and never more than there are callers; whichever
// instance is free first, started or given back, goes to the oldest caller. A
// permit is the same for a job, whose instance lasts for one run only.
//
// An idle instance is frozen after instances.freeze, and thawed by the first
// caller that gets it; who shares it waits for that. A caller that comes while
// it is being frozen makes the driver give that up.
//
//	                  ┌────── acquire: thaw ───── frozen ─┐
//	                  ▼                             ▲     │
//	start ─▶ starting ─ready─▶ busy ◀──acquire──── hot ───┴─idle too long─▶ stopping
//	                            │ └────release──────▲                          ▲
//	                            └──────killed, retired─────────────────────────┘
//
// Instances that are kept (instances.min) are started without a caller, and
// again when they die, with a growing pause while they die young. They are
// neither ended for being idle nor for others. Those of a new version are up
// before the older ones end, unless they do not start or there is no memory
// for both.
//
// # Memory
//
// The sum of the memory limits of all instances, frozen or not, stays within
// Config.Memory. Idle instances of others are ended before a caller waits for
// memory, as many as that needs, those first that save the least (package
// keepalive). What becomes free goes to who has waited longest; what the first
// ones need is kept for them, so that a large instance is not starved by small
// ones that fit first, but by turns, so that one that never fits does not stop
// the others.
//
// # Promises
//
// A line holds at most limits.waiting callers, each for limits.wait at most;
// one whose own instance is being started then may wait for that, which
// limits.start bounds. A start that does not work is told to those who waited
// when it was decided. A line that holds and keeps nothing is forgotten. An
// instance whose process ends is never handed out; one that cannot be thawed
// is ended, and its caller gets another. One that is ended with grace is
// thawed before it is asked to end. All methods may be called concurrently.
//
// # What it does not promise
//
// Instances that are busy are not taken from a function for another one,
// however long it waits: callers of a function are served by its instances
// first. A frozen instance whose connections to others have timed out finds
// that out when it is thawed.
//
// # Cost
//
// A hot call takes its line's lock twice, and nothing that lines share. What is
// due (ends, freezing, another start) waits in one heap with one timer for all.
// An instance costs one goroutine here, which waits for its end.
package pool
