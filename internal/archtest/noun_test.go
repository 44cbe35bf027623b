package archtest_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// noNoun are the files of core that are no nouns of the product, and why.
var noNoun = map[string]string{
	"capability": "what a driver can do here; it is shown as a part of the server",
	"doc":        "the package's comment",
	"error":      "errors of every noun",
	"exchange":   "what passes between a caller and a contract; nothing of it is kept",
	"id":         "ids of every noun",
	"page":       "lists of every noun",
	"principal":  "who asks; nothing of it is kept",
	"resource":   "what a function may use: a part of its spec",
	"size":       "units",
}

// nounLayers are the packages where each noun has a file of its name, with
// the nouns that have none there, and why.
var nounLayers = map[string]map[string]string{
	"internal/memory": {
		"image":    "images are files: internal/image keeps them",
		"instance": "instances live in internal/pool and are not kept",
	},
	"internal/sqlite": {
		"image":    "images are files: internal/image keeps them",
		"instance": "instances live in internal/pool and are not kept",
		"log":      "logs have a file of their own: internal/logstore",
	},
	"internal/httpapi": {},
	"api":              {},
	"client":           {},
	// version.go is there, for the version of the program.
	"internal/cli": {},
}

func TestNounHasAFileInEveryLayer(t *testing.T) {
	t.Parallel()
	for _, noun := range nouns(t) {
		for layer, exempt := range nounLayers {
			path := filepath.Join(layer, noun+".go")
			_, err := os.Stat(filepath.Join(root, path))
			switch {
			case err != nil && exempt[noun] == "":
				t.Errorf("there is no %s: each noun of core has a file of its name in %s", path, layer)
			case err == nil && exempt[noun] != "":
				t.Errorf("%s is there, so %s needs no exemption for it", path, layer)
			}
		}
	}
}

func nouns(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, f := range files(t, ".go") {
		if filepath.Dir(f) != "internal/core" || strings.HasSuffix(f, "_test.go") {
			continue
		}
		if name := strings.TrimSuffix(filepath.Base(f), ".go"); noNoun[name] == "" {
			out = append(out, name)
		}
	}
	for _, known := range []string{"app", "function", "run"} {
		if !slices.Contains(out, known) {
			t.Fatalf("core has no %s.go", known)
		}
	}
	return out
}
