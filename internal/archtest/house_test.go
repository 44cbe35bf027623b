package archtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if len(p.Doc) < len("Package x does y.") {
			t.Errorf("%s has no package comment", p.path())
		}
	}
}

// A mechanism or an adapter says in doc.go what it promises.
func TestMechanismsAndAdaptersHaveDoc(t *testing.T) {
	t.Parallel()
	for _, r := range rows {
		if r.name != "mechanism" && r.name != "adapter" {
			continue
		}
		for _, h := range r.heads {
			if oneFile[h] {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, "internal", h, "doc.go")); err != nil {
				t.Errorf("internal/%s has no doc.go", h)
			}
		}
	}
}

// oneFile are the packages of one short file, which begins with the comment.
var oneFile = map[string]bool{"contract": true, "sequence": true}

// A test sleeps in a bubble of testing/synctest only. Where the bubble is made
// in another file of the package, the line says "of the bubble".
func TestNoTestSleepsInRealTime(t *testing.T) {
	t.Parallel()
	const sleep, synctest = "time." + "Sleep(", `"testing/synctest"`
	bubbles := map[string]bool{} // by directory
	tests := files(t, "_test.go")
	for _, f := range tests {
		if strings.Contains(text(t, f), synctest) {
			bubbles[filepath.Dir(f)] = true
		}
	}
	for _, f := range tests {
		src := text(t, f)
		if strings.Contains(src, synctest) {
			continue
		}
		n := 0
		for l := range strings.Lines(src) {
			n++
			inBubble := bubbles[filepath.Dir(f)] && strings.Contains(l, "// of the bubble")
			if strings.Contains(l, sleep) && !inBubble {
				t.Errorf("%s:%d sleeps: wait for the event, or run in a synctest bubble", f, n)
			}
		}
	}
}

func TestNoTestIsSkipped(t *testing.T) {
	t.Parallel()
	skip := regexp.MustCompile(`\b[tbf]\.Skip` + `(Now|f)?\(`)
	for _, f := range files(t, "_test.go") {
		if skip.MatchString(text(t, f)) {
			t.Errorf("%s skips a test: what is missing is a failure that says so", f)
		}
	}
}

var (
	// treePath is a path of the tree in a document.
	treePath = regexp.MustCompile("`((?:internal|cmd|api|client|docs|examples|test|bench|\\.ci)/[A-Za-z0-9_./*-]*)`")
	// link is a relative link in a document.
	link = regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
	// symbol is a function, method or type in a document, as `pool.Pool.Acquire`.
	symbol = regexp.MustCompile("`([a-z][a-z0-9]*)\\.([A-Za-z]\\w*(?:\\.[A-Za-z]\\w*)?)`")
	// cFunction is one of init.c, as `mount_root()`.
	cFunction = regexp.MustCompile("`([a-z][a-z_]*)\\(\\)`")
)

func TestDocumentsNameRealPaths(t *testing.T) {
	t.Parallel()
	for _, f := range files(t, ".md") {
		doc := text(t, f)
		for _, m := range treePath.FindAllStringSubmatch(doc, -1) {
			if provedBy.MatchString(m[0]) {
				continue // see TestAttacksNameRealTests
			}
			if found, err := filepath.Glob(filepath.Join(root, m[1])); err != nil || len(found) == 0 {
				t.Errorf("%s names %s, which is not there", f, m[1])
			}
		}
		for _, m := range link.FindAllStringSubmatch(doc, -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(f), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", f, m[1])
			}
		}
	}
}

// provedBy is a test in a document: directory.Function, or
// directory.Function/case.
var provedBy = regexp.MustCompile("`((?:internal|test)/[a-z0-9/]+)\\.(Test\\w+)(?:/([^`]+))?`")

// Every row of the table of attacks names tests, and they are there.
func TestAttacksNameRealTests(t *testing.T) {
	t.Parallel()
	_, table, found := strings.Cut(text(t, "docs/security.md"), "| attack | what happens | shown by |\n")
	if !found {
		t.Fatal("docs/security.md has no table of attacks")
	}
	rows := 0
	for row := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(row, "| \n"), " | ")
		if len(cells) != 3 {
			if rows > 0 && !strings.HasPrefix(row, "|") {
				break
			}
			continue // the line below the head
		}
		rows++
		proofs := provedBy.FindAllStringSubmatch(cells[2], -1)
		if len(proofs) == 0 {
			t.Errorf("no test shows what happens to %q", cells[0])
		}
		for _, p := range proofs {
			if dir, test, of := p[1], p[2], p[3]; !hasTest(t, dir, test, of) {
				t.Errorf("to show %q there is no %s", cells[0], p[0])
			}
		}
	}
	if rows < 25 {
		t.Errorf("the table has only %d rows: does the test still see them?", rows)
	}
}

// hasTest reports whether the tests of a directory declare a test, and name
// the case of it. The cases of TestDriver are the suite's.
func hasTest(t *testing.T, dir, test, of string) bool {
	t.Helper()
	declared, named := false, of == ""
	for _, f := range files(t, ".go") {
		if d := filepath.Dir(f); d != dir && (test != "TestDriver" || d != "internal/drivertest") {
			continue
		}
		src := text(t, f)
		declared = declared || strings.HasSuffix(f, "_test.go") && strings.Contains(src, "func "+test+"(")
		named = named || strings.Contains(src, strconv.Quote(of))
	}
	return declared && named
}

func TestArchitectureNamesRealFunctions(t *testing.T) {
	t.Parallel()
	known, names := symbols(t)
	doc, c := text(t, "ARCHITECTURE.md"), text(t, "internal/sandbox/pid1/src/init.c")
	checked := 0
	for _, m := range symbol.FindAllStringSubmatch(doc, -1) {
		if !names[m[1]] {
			continue // a file's name, a library's function
		}
		checked++
		if !known[m[1]+"."+m[2]] {
			t.Errorf("ARCHITECTURE.md names %s.%s, which is not there", m[1], m[2])
		}
	}
	for _, m := range cFunction.FindAllStringSubmatch(doc, -1) {
		checked++
		if !strings.Contains(c, m[1]+"(") {
			t.Errorf("ARCHITECTURE.md names %s(), which is not in init.c", m[1])
		}
	}
	if checked < 20 {
		t.Errorf("only %d names were found in ARCHITECTURE.md: does the test still see them?", checked)
	}
}

// symbols gives what the packages below internal declare, as
// package.Name and package.Type.Method, and the packages' names.
func symbols(t *testing.T) (known, names map[string]bool) {
	t.Helper()
	known, names = map[string]bool{}, map[string]bool{}
	set := token.NewFileSet()
	for _, f := range files(t, ".go") {
		if !strings.HasPrefix(f, "internal/") || strings.HasSuffix(f, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, filepath.Join(root, f), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		names[file.Name.Name] = true
		for _, d := range file.Decls {
			for _, name := range declared(d) {
				known[file.Name.Name+"."+name] = true
			}
		}
	}
	return known, names
}

func declared(d ast.Decl) []string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			return []string{d.Name.Name}
		}
		of := d.Recv.List[0].Type
		if star, ok := of.(*ast.StarExpr); ok {
			of = star.X
		}
		if name, ok := of.(*ast.Ident); ok {
			return []string{name.Name + "." + d.Name.Name}
		}
	case *ast.GenDecl:
		var out []string
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				out = append(out, s.Name.Name)
				if port, ok := s.Type.(*ast.InterfaceType); ok {
					for _, m := range port.Methods.List {
						for _, n := range m.Names {
							out = append(out, s.Name.Name+"."+n.Name)
						}
					}
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					out = append(out, n.Name)
				}
			}
		}
		return out
	}
	return nil
}

var (
	requirement = regexp.MustCompile(`(?m)^\t(\S+) (v\S+)$`)
	tableRow    = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (v\\S+) \\|")
)

func TestDependenciesAreDescribed(t *testing.T) {
	t.Parallel()
	direct := map[string]string{}
	for _, m := range requirement.FindAllStringSubmatch(text(t, "go.mod"), -1) {
		direct[m[1]] = m[2]
	}
	told := map[string]string{}
	for _, m := range tableRow.FindAllStringSubmatch(text(t, "docs/dependencies.md"), -1) {
		told[m[1]] = m[2]
	}
	if len(direct) == 0 {
		t.Fatal("no requirement was found in go.mod")
	}
	for name, version := range direct {
		if told[name] != version {
			t.Errorf("go.mod requires %s %s; docs/dependencies.md says %q of it", name, version, told[name])
		}
	}
	for name := range told {
		if direct[name] == "" {
			t.Errorf("docs/dependencies.md tells of %s, which go.mod does not require directly", name)
		}
	}
}
