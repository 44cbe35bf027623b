package archtest_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// module is the module of the product, root where its tree begins.
const (
	module = "github.com/dayfly-io/dayfly"
	root   = "../.."
)

// pkg is a package as go list tells of it. Imports are those of its code, not
// of its tests.
type pkg struct {
	ImportPath, Dir, Name, Doc string
	Imports                    []string
}

// path gives the package's path in the tree, such as internal/core.
func (p pkg) path() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

// packages gives every package of the module.
func packages(t *testing.T) []pkg {
	t.Helper()
	list, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var listed = sync.OnceValues(func() ([]pkg, error) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Name,Doc,Imports", module+"/...").Output()
	if err != nil {
		return nil, err
	}
	var list []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return nil, err
		}
		list = append(list, p)
	}
})

// notOurs are directories with nothing of ours in them, or nothing to check.
var notOurs = []string{".git", "bin", "dist", "node_modules", "testdata", "dayfly-data"}

// files gives the paths, from the root, of all files whose names end so.
func files(t *testing.T, suffix string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && slices.Contains(notOurs, e.Name()) {
			return fs.SkipDir
		}
		if !e.IsDir() && strings.HasSuffix(path, suffix) {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			out = append(out, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatalf("there is no file whose name ends in %s", suffix)
	}
	return out
}

// text reads a file by its path from the root.
func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
