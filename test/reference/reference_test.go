package reference_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/cli"
	"github.com/dayfly-io/dayfly/internal/server"
)

var update = flag.Bool("update", false, "write docs/reference anew")

const docs = "../../docs/reference/"

// hold compares a file of docs/reference with what it is to be.
func hold(t *testing.T, name, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(docs+name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docs + name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/reference/%s is out of date: run go test ./test/reference -update", name)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// help gives what a command says of itself.
func help(t *testing.T, command ...string) string {
	t.Helper()
	var out, chat bytes.Buffer
	code := cli.Main(t.Context(), cli.Program{
		Args: append(command, "--help"), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &chat,
	}, server.Command(""), server.Doctor())
	if code != 0 {
		t.Fatalf("dayfly %s --help exits with %d: %s", strings.Join(command, " "), code, &chat)
	}
	return out.String()
}

var (
	subcommands = regexp.MustCompile(`(?ms)^Available Commands:\n(.*?)\n\n`)
	globalFlags = regexp.MustCompile(`(?s)\nGlobal Flags:\n.*$`)
)

func TestCLI(t *testing.T) { //nolint:paralleltest // it sets the environment
	// The server's defaults may come of the environment.
	for _, name := range []string{"DAYFLY_LISTEN", "DAYFLY_DATA", "DAYFLY_DRIVER", "DAYFLY_MEMORY_TOTAL", "DAYFLY_HOSTS", "DAYFLY_TOKEN"} {
		t.Setenv(name, "")
	}
	var b strings.Builder
	b.WriteString(`# The command line

Generated from the program's own help (` + "`go test ./test/reference -update`" + `).

What a command prints is data and goes to standard output; what it has to say besides goes to
standard error. ` + "`--app` and `--url`" + ` go with every command.

## Exit codes

They are promised: scripts may rely on them.

| code | meaning |
|---|---|
| 0 | it worked |
| 1 | an error that has no code of its own |
| 2 | the command line is wrong |
| 3 | not found |
| 4 | not allowed |
| 5 | conflict |
| 6 | timeout |
| 7 | the server cannot be reached |
| 20 | the function failed |
| 130 | interrupted |
`)
	n := describeCommand(t, &b)
	if n < 15 {
		t.Errorf("only %d commands were found", n)
	}
	hold(t, "cli.md", b.String())
}

// describeCommand writes a command and all below it, and tells how many.
func describeCommand(t *testing.T, b *strings.Builder, command ...string) int {
	t.Helper()
	text := help(t, command...)
	shown := text
	if len(command) > 0 {
		shown = globalFlags.ReplaceAllString(shown, "")
	}
	fmt.Fprintf(b, "\n## %s\n\n```\n%s\n```\n", strings.Join(append([]string{"dayfly"}, command...), " "), strings.TrimSpace(shown))
	n := 1
	if list := subcommands.FindStringSubmatch(text); list != nil {
		for line := range strings.Lines(list[1]) {
			name := strings.Fields(line)[0]
			// These are cobra's own.
			if name != "help" && name != "completion" {
				n += describeCommand(t, b, append(slices.Clone(command), name)...)
			}
		}
	}
	return n
}

// ordered is a JSON object that keeps its order.
type ordered struct {
	keys   []string
	values map[string]json.RawMessage
}

func (o *ordered) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil {
		return err
	}
	o.values = map[string]json.RawMessage{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return err
		}
		o.keys = append(o.keys, key.(string))
		o.values[key.(string)] = v
	}
	return nil
}

type property struct {
	Type        string `json:"type"`
	Ref         string `json:"$ref"`
	Description string `json:"description"`
	Default     any    `json:"default"`
	Enum        []any  `json:"enum"`
	Examples    []any  `json:"examples"`
	Items       *struct {
		Type string `json:"type"`
	} `json:"items"`
	AdditionalProperties any `json:"additionalProperties"`
}

func TestManifest(t *testing.T) {
	t.Parallel()
	var schema struct {
		Defs map[string]struct {
			Properties ordered `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(read(t, "../../docs/dayfly.schema.json"), &schema); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(`# dayfly.yaml

Generated from the schema (` + "`go test ./test/reference -update`" + `), which is in
[dayfly.schema.json](../dayfly.schema.json) for editors. An unknown key is an error that names line and column, and
the nearest key there is. Tools never rewrite the file.

Sizes are a number and a unit: ` + "`128MiB`, `1.5GiB`, `500kB`" + `. Durations are like ` + "`500ms`, `30s`, `1h30m`" + `.

`)
	b.WriteString("```yaml\n" + string(read(t, "../../examples/dayfly.yaml")) + "```\n")
	for _, def := range []struct{ name, title string }{
		{"File", "The file"},
		{"Function", "`functions.NAME`"},
		{"Build", "`functions.NAME.build`"},
		{"Instances", "`functions.NAME.instances`"},
		{"Concurrency", "`functions.NAME.concurrency`"},
		{"Limits", "`functions.NAME.limits`"},
	} {
		properties := schema.Defs[def.name].Properties
		if len(properties.keys) == 0 {
			t.Fatalf("the schema has no %s", def.name)
		}
		fmt.Fprintf(&b, "\n## %s\n\n| key | value | default | meaning |\n|---|---|---|---|\n", def.title)
		for _, key := range properties.keys {
			var p property
			if err := json.Unmarshal(properties.values[key], &p); err != nil {
				t.Fatal(err)
			}
			if p.Description == "" {
				t.Errorf("%s.%s is not described", def.name, key)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", key, p.value(), p.fallback(), p.Description)
		}
	}
	hold(t, "manifest.md", b.String())
}

// value says what may stand behind a key.
func (p property) value() string {
	switch {
	case len(p.Enum) > 0:
		words := make([]string, len(p.Enum))
		for i, e := range p.Enum {
			words[i] = fmt.Sprintf("`%v`", e)
		}
		return strings.Join(words, " or ")
	case p.Ref != "":
		return "see " + p.Ref[strings.LastIndex(p.Ref, "/")+1:]
	case p.Items != nil:
		return "list of " + p.Items.Type + "s"
	case p.AdditionalProperties != nil:
		return "map"
	case len(p.Examples) > 0:
		return fmt.Sprintf("%s, as `%v`", p.Type, p.Examples[0])
	case p.Type == "":
		return "any"
	}
	return p.Type
}

func (p property) fallback() string {
	if p.Default == nil {
		return ""
	}
	return fmt.Sprintf("`%v`", p.Default)
}

const (
	routesBegin = "<!-- routes: generated from api/openapi.json by go test ./test/reference -update -->\n"
	routesEnd   = "<!-- end of routes -->\n"
)

func TestAPI(t *testing.T) {
	t.Parallel()
	text := string(read(t, docs+"api.md"))
	before, rest, ok := strings.Cut(text, routesBegin)
	_, after, ok2 := strings.Cut(rest, routesEnd)
	if !ok || !ok2 {
		t.Fatal("docs/reference/api.md has lost the marks around its routes")
	}
	hold(t, "api.md", before+routesBegin+routes(t)+routesEnd+after)
}

// routes gives the table of routes.
func routes(t *testing.T) string {
	t.Helper()
	var document struct {
		Paths ordered `json:"paths"`
	}
	if err := json.Unmarshal(read(t, "../../api/openapi.json"), &document); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| route | parameters | what it does |\n|---|---|---|\n")
	for _, path := range document.Paths.keys {
		if strings.HasPrefix(path, "/f/") {
			continue // every method; described by hand
		}
		var methods ordered
		if err := json.Unmarshal(document.Paths.values[path], &methods); err != nil {
			t.Fatal(err)
		}
		for _, method := range methods.keys {
			var op struct {
				Summary    string `json:"summary"`
				Parameters []struct {
					Name, In string
				} `json:"parameters"`
			}
			if err := json.Unmarshal(methods.values[method], &op); err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, p := range op.Parameters {
				if p.In != "path" {
					names = append(names, "`"+p.Name+"`")
				}
			}
			fmt.Fprintf(&b, "| `%s %s` | %s | %s |\n", strings.ToUpper(method), path, strings.Join(names, " "), op.Summary)
		}
	}
	return b.String()
}

var codeConst = regexp.MustCompile(`(?m)^\t\w+\s+(?:Code|Reason)\s+= "(\w+)"`)

func TestEveryCodeIsDescribed(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../internal/core/*.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, n := string(read(t, docs+"api.md")), 0
	for _, f := range files {
		for _, m := range codeConst.FindAllStringSubmatch(string(read(t, f)), -1) {
			n++
			if !strings.Contains(doc, "\n| `"+m[1]+"` |") {
				t.Errorf("docs/reference/api.md does not describe the code %s", m[1])
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d codes were found in core", n)
	}
}
