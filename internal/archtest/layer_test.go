package archtest_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// row is a layer of the tree.
type row struct {
	name string
	// heads are the directories below internal that are in it. What is below
	// one of them is in it too.
	heads []string
	// bars are standard packages that it must not import directly.
	bars []string
}

// rows are all layers, lowest first. A package imports packages of lower rows
// only, never of its own or a higher one.
var rows = []row{
	{"base", []string{"front", "lifecycle", "netns", "socket", "sqlitefile"}, nil},
	// io is there for the values Reader and Writer, which ports pass.
	{"core", []string{"core"}, []string{"context", "database/sql", "log/slog", "net", "net/http", "os", "os/exec", "sync", "syscall", "time/tzdata"}},
	{"engine", []string{"keepalive"}, []string{"database/sql", "log/slog", "net", "net/http", "os", "os/exec", "sync", "syscall"}},
	{"mechanism", []string{"catalog", "pool", "sequence"}, noInput},
	{"service", []string{"access", "deploy", "invoke", "maintain"}, noInput},
	{"adapter", []string{"build", "contract", "docker", "httpapi", "image", "logstore", "manifest", "memory", "sandbox", "sqlite"}, nil},
	{"end", []string{"cli", "doctor", "server"}, nil},
}

// noInput is what reaches out of the process: that is for adapters.
var noInput = []string{"database/sql", "net/http", "os", "os/exec", "syscall"}

// exceptions are the imports that the table refuses and that stand
// nevertheless, each with its reason.
var exceptions = map[string]string{
	"sandbox -> image":          "the built-in driver mounts the unpacked layers itself; a driver of an engine has its own images",
	"docker -> sandbox/network": "one policy for what functions reach, whoever makes their containers: it takes network namespaces of anybody",
	"build -> image/pack":       "a build ends in an image tar, and there is one way to write those",
	"cli -> build":              "deploy builds on the user's machine, where the source is",
	"cli -> manifest":           "deploy reads dayfly.yaml on the user's machine",
}

// everybody is the package that wires all the others.
const everybody = "server"

// below gives the path below internal, "" for other packages.
func below(importPath string) string {
	rest, ok := strings.CutPrefix(importPath, module+"/internal/")
	if !ok {
		return ""
	}
	return rest
}

func head(path string) string {
	h, _, _ := strings.Cut(path, "/")
	return h
}

func rowOf(head string) int {
	return slices.IndexFunc(rows, func(r row) bool { return slices.Contains(r.heads, head) })
}

// isSuite reports whether a package is there for tests only: conformance
// suites, builders and this one.
func isSuite(head string) bool { return strings.HasSuffix(head, "test") }

func TestEveryPackageHasARow(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	for _, p := range packages(t) {
		h := head(below(p.ImportPath))
		found[h] = true
		if h != "" && !isSuite(h) && rowOf(h) < 0 {
			t.Errorf("internal/%s is in no row: put it into one in internal/archtest, .golangci.yml and ARCHITECTURE.md", h)
		}
	}
	for _, r := range rows {
		for _, h := range r.heads {
			if !found[h] {
				t.Errorf("the row %s has internal/%s, which is not there", r.name, h)
			}
		}
	}
}

func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, p := range packages(t) {
		from := below(p.ImportPath)
		if from == "" || isSuite(head(from)) || rowOf(head(from)) < 0 {
			continue
		}
		for _, imp := range p.Imports {
			edge := head(from) + " -> " + below(imp)
			if exceptions[edge] != "" {
				used[edge] = true
				continue
			}
			if fault := refuse(head(from), imp); fault != "" {
				t.Errorf("%s imports %s: %s", p.path(), imp, fault)
			}
		}
	}
	for edge := range maps.Keys(exceptions) {
		if !used[edge] {
			t.Errorf("nobody needs the exception %s: take it out", edge)
		}
	}
}

// refuse says what is wrong with an import, "" when nothing is.
func refuse(from, imp string) string {
	r := rows[rowOf(from)]
	if slices.Contains(r.bars, imp) {
		return "the row " + r.name + " must not"
	}
	to := head(below(imp))
	if to == "" || to == from || from == everybody {
		return ""
	}
	at := rowOf(to)
	switch {
	case isSuite(to):
		return "that is there for tests only"
	case at < 0:
		return "" // TestEveryPackageHasARow tells of it
	case at >= rowOf(from):
		return "it is of the row " + rows[at].name + ", and imports point down"
	case r.name == "adapter" && at > rowOf("core"):
		return "adapters know the nouns, never a service or each other"
	case from == "cli":
		return "the command line talks to the server by client, as everybody does"
	}
	return ""
}

// mayImport says which packages of ours the packages outside of internal
// import. What does not stand here imports none.
var mayImport = map[string][]string{
	"client":     {"api"},
	"cmd/dayfly": {"internal/cli", "internal/server"},
}

func TestOutsideOfInternal(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if below(p.ImportPath) != "" {
			continue
		}
		for _, imp := range p.Imports {
			dep, ours := strings.CutPrefix(imp, module+"/")
			if ours && !slices.Contains(mayImport[p.path()], dep) {
				t.Errorf("%s imports %s: what is outside of internal may import what mayImport says", p.path(), dep)
			}
		}
	}
}

// wireUsers are the only packages below internal that know the wire types.
var wireUsers = []string{"cli", "httpapi", "manifest"}

func TestWireTypesStayAtTheEdge(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		h := head(below(p.ImportPath))
		if h == "" || isSuite(h) {
			continue
		}
		for _, imp := range p.Imports {
			if imp == module+"/api" && !slices.Contains(wireUsers, h) {
				t.Errorf("%s imports api: the inside speaks core", p.path())
			}
			if imp == module+"/client" && h != "cli" {
				t.Errorf("%s imports client: the server never calls itself", p.path())
			}
		}
	}
}
