// Package report turns results into text: a section for each measure, with
// what was wanted beside what was measured, and the page docs/performance.md.
// Every number in it comes from a file of results.
package report
