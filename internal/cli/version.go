package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/client"
)

func (s *session) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version of this program; list, show and compare those of functions",
		Long: `Print the version of this program.

The commands below are about the versions of a function. Whatever changes a
function makes a new version, which never changes: deploying, creating and
rolling back.`,
	}
	asJSON := jsonFlag(cmd)
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		if *asJSON {
			return s.printJSON(map[string]string{"version": s.Version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
		}
		return s.printRows([][]string{{"dayfly " + s.Version + " (" + runtime.GOOS + "/" + runtime.GOARCH + ", " + runtime.Version() + ")"}})
	}
	cmd.AddCommand(s.versionListCommand(), s.versionShowCommand(), s.versionDiffCommand())
	return cmd
}

func (s *session) versionListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list NAME", Short: "List the versions of a function, newest first", Args: names("NAME"),
		Long: "List the versions of a function, newest first. The one that is called is marked.",
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		app, name := s.function(args[0])
		f, err := c.Function(cmd.Context(), app, name)
		if err != nil {
			return err
		}
		list, err := collect(func(p client.Page) (api.List[api.Version], error) {
			return c.Versions(cmd.Context(), app, name, p)
		})
		if err != nil {
			return err
		}
		header := []string{"VERSION", "IMAGE", "DIGEST", "CREATED", "BY", "NOTE"}
		return printList(s, *asJSON, list, header, func(v api.Version) []string {
			return []string{
				strconv.Itoa(v.Version), shortDigest(v.Image), cmp.Or(shortDigest(v.Digest), "unresolved"),
				ago(s.Now(), v.CreatedAt), v.CreatedBy, versionNote(v, f.Version),
			}
		})
	}
	return cmd
}

// versionNote says what is special about a version.
func versionNote(v api.Version, called int) string {
	var notes []string
	if v.Version == called {
		notes = append(notes, "called")
	}
	if v.Restores != 0 {
		notes = append(notes, "rolled back to "+strconv.Itoa(v.Restores))
	}
	return strings.Join(notes, ", ")
}

func (s *session) versionShowCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show NAME [VERSION]", Short: "Show a version of a function; the one that is called unless VERSION names another", Args: names("NAME", "[VERSION]")}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		app, name := s.function(args[0])
		f, err := c.Function(cmd.Context(), app, name)
		if err != nil {
			return err
		}
		number := f.Version
		if len(args) > 1 {
			if number, err = parseVersion(cmd, args[1]); err != nil {
				return err
			}
		}
		v, err := c.Version(cmd.Context(), app, name, number)
		if err != nil {
			return err
		}
		if *asJSON {
			return s.printJSON(v)
		}
		rows := [][]string{{"function", app + "/" + name}, {"version", strconv.Itoa(v.Version)}}
		if note := versionNote(v, f.Version); note != "" {
			rows = append(rows, []string{"note", note})
		}
		rows = append(rows, []string{"created", strings.TrimSuffix(ago(s.Now(), v.CreatedAt)+" by "+v.CreatedBy, " by ")})
		return s.printRows(append(rows, specRows(v.Spec, v.Digest)...))
	}
	return cmd
}

func parseVersion(cmd *cobra.Command, arg string) (int, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(arg, "v"))
	if err != nil || n < 1 {
		return 0, usageError(cmd, "%q is not the number of a version", arg)
	}
	return n, nil
}

func (s *session) versionDiffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff NAME [FROM [TO]]",
		Short: "Compare two versions of a function",
		Long: `Compare two versions of a function, field by field. Without TO it is the version
that is called; without FROM, the one before that. The exit code is 8 when they
differ.`,
		Example: `  dayfly version diff hello        # what the last deploy changed
  dayfly version diff hello 3      # what has changed since version 3
  dayfly version diff hello 3 5`,
		Args: names("NAME", "[FROM]", "[TO]"),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		app, name := s.function(args[0])
		from, to, err := s.versionPair(cmd, c, args)
		if err != nil {
			return err
		}
		var fields [2]map[string]string
		for i, number := range []int{from, to} {
			v, err := c.Version(cmd.Context(), app, name, number)
			if err != nil {
				return err
			}
			if fields[i], err = versionFields(v); err != nil {
				return err
			}
		}
		diff := versionDiff{From: from, To: to, Changes: changesOf(fields[0], fields[1])}
		if *asJSON {
			err = s.printJSON(diff)
		} else {
			err = s.printDiff(app+"/"+name, diff)
		}
		if err == nil && len(diff.Changes) > 0 {
			return &failure{code: exitDifferent, err: errTold}
		}
		return err
	}
	return cmd
}

// versionPair gives the two versions that the arguments mean.
func (s *session) versionPair(cmd *cobra.Command, c *client.Client, args []string) (from, to int, err error) {
	if len(args) > 2 {
		if to, err = parseVersion(cmd, args[2]); err != nil {
			return 0, 0, err
		}
	} else {
		app, name := s.function(args[0])
		f, err := c.Function(cmd.Context(), app, name)
		if err != nil {
			return 0, 0, err
		}
		to = f.Version
	}
	if len(args) > 1 {
		from, err = parseVersion(cmd, args[1])
		return from, to, err
	}
	if to == 1 {
		return 0, 0, errors.New("there is only version 1: nothing to compare it with")
	}
	return to - 1, to, nil
}

// versionDiff is what differs between two versions of a function.
type versionDiff struct {
	From    int             `json:"from"`
	To      int             `json:"to"`
	Changes []versionChange `json:"changes"`
}

// versionChange is a field that differs; a value that is not there is empty.
type versionChange struct {
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

func changesOf(from, to map[string]string) []versionChange {
	changes := []versionChange{}
	all := maps.Clone(from)
	maps.Copy(all, to)
	for _, field := range slices.Sorted(maps.Keys(all)) {
		if from[field] != to[field] {
			changes = append(changes, versionChange{Field: field, From: from[field], To: to[field]})
		}
	}
	return changes
}

func (s *session) printDiff(name string, d versionDiff) error {
	if len(d.Changes) == 0 {
		s.chat("Versions %d and %d of %s are the same.", d.From, d.To, name)
		return nil
	}
	rows := [][]string{{"FIELD", "VERSION " + strconv.Itoa(d.From), "VERSION " + strconv.Itoa(d.To)}}
	for _, c := range d.Changes {
		rows = append(rows, []string{c.Field, c.From, c.To})
	}
	return s.printRows(rows)
}

// versionFields gives what a version is made of, each field under its name in
// the API, those within others joined by dots. When and by whom it was made is
// not part of it.
func versionFields(v api.Version) (map[string]string, error) {
	text, err := json.Marshal(v.Spec)
	if err != nil {
		return nil, fmt.Errorf("compare versions: %w", err)
	}
	var spec map[string]json.RawMessage
	if err := json.Unmarshal(text, &spec); err != nil {
		return nil, fmt.Errorf("compare versions: %w", err)
	}
	fields := map[string]string{"digest": v.Digest}
	flatten(fields, "", spec)
	return fields, nil
}

func flatten(into map[string]string, prefix string, object map[string]json.RawMessage) {
	for name, value := range object {
		var inner map[string]json.RawMessage
		var text string
		switch {
		case json.Unmarshal(value, &inner) == nil:
			flatten(into, prefix+name+".", inner)
		case json.Unmarshal(value, &text) == nil:
			into[prefix+name] = cmp.Or(text, `""`)
		default:
			into[prefix+name] = string(value)
		}
	}
}
