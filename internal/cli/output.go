package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/dayfly-io/dayfly/api"
)

// jsonFlag adds --json, which every command has that tells something.
func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON, as the API has it")
}

// printJSON writes a value as the API has it, indented.
func (s *session) printJSON(v any) error {
	enc := json.NewEncoder(s.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}

// printList writes a list: as JSON, or one row each under a header.
func printList[T any](s *session, asJSON bool, list api.List[T], header []string, row func(T) []string) error {
	if asJSON {
		if list.Items == nil {
			list.Items = []T{}
		}
		return s.printJSON(list)
	}
	rows := [][]string{header}
	for _, item := range list.Items {
		rows = append(rows, row(item))
	}
	return s.printRows(rows)
}

// printRows writes rows with their columns aligned.
func (s *session) printRows(rows [][]string) error {
	widths := map[int]int{}
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(oneLine(cell)))
		}
	}
	colour := s.colour()
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			cell = oneLine(cell)
			// In a list, nothing is shown as something, so that the columns can
			// be counted.
			if cell == "" && len(row) > 2 {
				cell = "-"
			}
			pad := widths[i] - utf8.RuneCountInString(cell)
			if colour {
				cell = paint(cell)
			}
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", pad+2))
			}
		}
		b.WriteByte('\n')
	}
	if _, err := io.WriteString(s.Stdout, b.String()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// paint colours the words that are states.
func paint(cell string) string {
	colours := map[string]string{
		string(api.StateSucceeded): "32", string(api.StateFailed): "31", string(api.StateTimedOut): "31",
		string(api.StateRunning): "36", string(api.StateCancelled): "33", "hot": "32", "busy": "36",
	}
	if c, ok := colours[cell]; ok {
		return "\x1b[" + c + "m" + cell + "\x1b[0m"
	}
	return cell
}

// printable takes out what could steer a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || r == utf8.RuneError) {
			return '\uFFFD'
		}
		return r
	}, text)
}

// oneLine is printable for a cell of a table.
func oneLine(text string) string {
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(printable(text))
}

// ago says how long before now an instant was.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := now.Sub(t)
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + "s ago"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m ago"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h ago"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d ago"
}

// span gives a measured duration with three digits that count.
func span(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return limit(api.Duration(d.Round(time.Second)))
	case d >= time.Second:
		return digits(d.Seconds()) + "s"
	case d >= time.Millisecond:
		return digits(float64(d)/float64(time.Millisecond)) + "ms"
	}
	return strconv.FormatInt(d.Microseconds(), 10) + "µs"
}

// digits writes a number with three digits that count, or its whole part when
// that has more.
func digits(f float64) string {
	switch {
	case f >= 99.95:
		return strconv.FormatFloat(f, 'f', 0, 64)
	case f >= 9.995:
		return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0")
	}
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(f, 'f', 2, 64), "0"), ".")
}

// ms is span for a time as the API has it.
func ms(m api.Milliseconds) string { return span(m.Duration()) }

// size gives bytes with three digits that count.
func size(n int64) string {
	for i, u := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if unit := int64(1) << (10 * (4 - i)); n >= unit {
			return digits(float64(n)/float64(unit)) + u
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// shortDigest gives the part of a digest by which people know it.
func shortDigest(digest string) string {
	if hex, ok := strings.CutPrefix(digest, "sha256:"); ok && len(hex) > 12 {
		return hex[:12]
	}
	return digest
}
