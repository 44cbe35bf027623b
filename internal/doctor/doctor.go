// Package doctor tells what the machine can do for a Dayfly server, and what
// not: each with what was found and what a person can do about it.
//
// Looking and judging are apart. [Look] finds out and gives [Facts]; it changes
// nothing that outlives it, and tries what cannot be read in namespaces of its
// own. [Judge] is a pure function of facts.
package doctor

import "strings"

// Verdict is what a finding means.
type Verdict string

// The verdicts.
const (
	OK   Verdict = "ok"
	Less Verdict = "less" // it runs, and does less than it could
	No   Verdict = "no"   // the driver does not run
	Note Verdict = "note" // nothing depends on it
)

// Finding is one thing that was looked at.
type Finding struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Found   string  `json:"found"`
	Remedy  string  `json:"remedy,omitempty"`
}

// Report is what the doctor says.
type Report struct {
	// Driver is the one that a server takes here unless it is told which, ""
	// when none can run.
	Driver   string    `json:"driver"`
	Findings []Finding `json:"findings"`
}

// Fit reports whether a server can run.
func (r Report) Fit() bool { return r.Driver != "" }

// String gives the report as people read it: a line for each finding, and
// below it what to do.
func (r Report) String() string {
	width := 0
	for _, f := range r.Findings {
		width = max(width, len(f.Name))
	}
	var b strings.Builder
	for _, f := range r.Findings {
		b.WriteString(f.Name + strings.Repeat(" ", width-len(f.Name)) + "  " + string(f.Verdict) + strings.Repeat(" ", 4-len(f.Verdict)) + "  " + f.Found + "\n")
		if f.Remedy != "" {
			b.WriteString(strings.Repeat(" ", width+8) + "-> " + f.Remedy + "\n")
		}
	}
	if r.Fit() {
		b.WriteString("\nA server runs here with the driver " + r.Driver + ".\n")
	} else {
		b.WriteString("\nA server does not run here: see the lines with \"no\".\n")
	}
	return b.String()
}
