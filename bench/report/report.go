package report

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dayfly-io/dayfly/bench/result"
)

// measures are the sections of the page, in order.
var measures = []struct {
	name  string
	title string
	write func(*section)
}{
	{"cold", "Cold start", cold},
	{"coldrate", "Cold starts per second", coldRate},
	{"hot", "Hot calls", hot},
	{"fdk", "Hot calls of functions of the Fn Project", fdk},
	{"memory", "Memory of the server", memory},
	{"unpack", "Loading an image", unpack},
	{"functions", "Many functions", functions},
	{"frozen", "Frozen instances", frozen},
	{"runtimes", "Node and Python", runtimes},
}

// Goal is a number that was wanted, and what was measured.
type Goal struct {
	What     string
	Measured string
	Wanted   string
	Met      bool
}

// section gathers the text of one measure.
type section struct {
	*result.Run
	goals []Goal
	text  strings.Builder
}

func (s *section) goal(met bool, what, measured, wanted string) {
	s.goals = append(s.goals, Goal{what, measured, wanted, met})
}

func (s *section) say(format string, args ...any) {
	fmt.Fprintf(&s.text, format, args...)
}

// ratio gives the median of the ratios of two variants.
func (s *section) ratio(variant, base, name string) string {
	if variant == base {
		return "1"
	}
	return fmt.Sprintf("%.2f", result.Median(s.Ratios(variant, base, name)))
}

// row writes a row of a table.
func row(b *strings.Builder, cells ...string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

// table writes a table; the first row is its head.
func table(b *strings.Builder, rows ...[]string) {
	for i, r := range rows {
		row(b, r...)
		if i == 0 {
			b.WriteString("|" + strings.Repeat("---|", len(r)) + "\n")
		}
	}
	b.WriteString("\n")
}

// Section gives the section of a run.
func Section(r *result.Run) string {
	for _, m := range measures {
		if m.name == r.Machine.Measure {
			s := build(r, m.write)
			return "## " + m.title + "\n\n" + s.whole()
		}
	}
	return "There is no text for the measure " + r.Machine.Measure + ".\n"
}

func build(r *result.Run, write func(*section)) *section {
	s := &section{Run: r}
	write(s)
	return s
}

// whole gives goals, text, notes and machine.
func (s *section) whole() string {
	var b strings.Builder
	if len(s.goals) > 0 {
		table(&b, goalRows(s.goals)...)
	}
	b.WriteString(s.text.String())
	if len(s.Notes) > 0 {
		b.WriteString("Noted during the run:\n\n")
		for _, n := range s.Notes {
			b.WriteString("- " + strings.ReplaceAll(strings.TrimSpace(n), "\n", " ") + "\n")
		}
		b.WriteString("\n")
	}
	m := s.Machine
	fmt.Fprintf(&b, "Taken %s in %.0f s with %s; load average before: %.2f, %.2f, %.2f.\n",
		m.StartedAt.Format("2006-01-02 15:04 UTC"), s.Seconds, orUnknown(m.Version), m.Load[0], m.Load[1], m.Load[2])
	return b.String()
}

func goalRows(goals []Goal) [][]string {
	rows := [][]string{{"", "measured", "wanted", ""}}
	for _, g := range goals {
		verdict := "missed"
		if g.Met {
			verdict = "met"
		}
		rows = append(rows, []string{g.What, g.Measured, g.Wanted, verdict})
	}
	return rows
}

func orUnknown(s string) string {
	if s == "" {
		return "an unknown version"
	}
	return s
}

const intro = `# Performance

Written by bench from its raw results (` + "`bench/results`" + `, one line of JSON per sample);
do not edit it by hand. How to measure again: [bench/README.md](../bench/README.md).

What holds for all of it:

- The server is the program as it is built, a process of its own, called over TCP on the
  loopback of a network namespace made for the run. Client, server and function share the
  machine's processors: a client elsewhere would leave more to the server.
- Every call is recorded as a run on disk, with times and use; the number of recorded runs
  is compared with the number of calls after each load, and a difference fails the run.
- Variants that are compared take turns within a round. Ratios are those of one round;
  what is given is the median of the rounds, and all values are in the results.
- The function is a static Go program with net/http that answers 200 bytes.

`

// Write writes the page from the newest whole results of each measure.
func Write(path, results string) error {
	var summary [][]string
	var sections strings.Builder
	var machine *result.Machine
	for _, m := range measures {
		r, from, err := result.Newest(results, m.name)
		if err != nil {
			return err
		}
		if r == nil {
			fmt.Fprintf(&sections, "## %s\n\nNot measured yet.\n\n", m.title)
			continue
		}
		if machine == nil || r.Machine.StartedAt.After(machine.StartedAt) {
			machine = &r.Machine
		}
		s := build(r, m.write)
		summary = append(summary, goalRows(s.goals)[1:]...)
		rel, err := filepath.Rel(results, from)
		if err != nil {
			return fmt.Errorf("name the results: %w", err)
		}
		fmt.Fprintf(&sections, "## %s\n\n%s\nRaw: [%s](../bench/results/%s)\n\n", m.title, s.whole(), rel, filepath.ToSlash(rel))
	}
	if machine == nil {
		return errors.New("there are no whole results to write about: run a measure first")
	}
	var b strings.Builder
	b.WriteString(intro)
	fmt.Fprintf(&b, "Machine: %s, %d cores, %.0f GiB, kernel %s, cgroups %s, data on %s, %s.\n\n",
		machine.CPU, machine.Cores, float64(machine.MemoryBytes)/(1<<30), machine.Kernel, machine.Cgroups, machine.FileSystem, machine.Go)
	table(&b, append([][]string{{"", "measured", "wanted", ""}}, summary...)...)
	b.WriteString(sections.String())
	if err := os.WriteFile(path, []byte(strings.TrimRight(b.String(), "\n")+"\n"), 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}
