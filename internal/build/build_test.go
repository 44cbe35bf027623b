package build_test

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/build"
	"github.com/dayfly-io/dayfly/internal/core"
)

const program = "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"hello\\n\") }\n"

// source writes files into a new directory.
func source(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func hello(t *testing.T) string {
	t.Helper()
	return source(t, map[string]string{"hello/go.mod": "module hello\n", "hello/main.go": program})
}

// pack builds and gives the tar and its digest.
func pack(t *testing.T, opt build.Options) ([]byte, string) {
	t.Helper()
	opt.Runtime = "go"
	if opt.Env == nil {
		opt.Env = os.Environ()
	}
	var printed, out bytes.Buffer
	opt.Output = &printed
	image, err := build.Build(t.Context(), opt)
	if err != nil {
		t.Fatalf("%v\n%s", err, printed.String())
	}
	defer image.Close()
	digest, err := image.WriteTar(&out, "shop/hello")
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), digest
}

func TestSameSourceGivesSameBytes(t *testing.T) {
	t.Parallel()
	first, digest := pack(t, build.Options{Root: hello(t), Source: "hello"})
	// Another directory, and an environment that would change the program.
	env := append(os.Environ(), "GOFLAGS=-ldflags=-X=main.x=y -tags=other", "CGO_ENABLED=1", "GOOS=plan9", "GOARCH=386", "GOAMD64=v3")
	second, other := pack(t, build.Options{Root: filepath.Join(hello(t), "hello"), Source: ".", Env: env})
	if digest != other || !bytes.Equal(first, second) {
		t.Errorf("the digests are %s and %s", digest, other)
	}
}

// unpack reads the files of a tar.
func unpack(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for in := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = b
	}
}

func TestImageHasTheProgramAndNothingElse(t *testing.T) {
	t.Parallel()
	data, _ := pack(t, build.Options{Root: hello(t), Source: "./hello", Arch: "arm64"})
	files := unpack(t, data)
	var saved []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(files["manifest.json"], &saved); err != nil || len(saved) != 1 || len(saved[0].Layers) != 1 {
		t.Fatalf("manifest.json is %s: %v", files["manifest.json"], err)
	}
	var config struct {
		OS, Architecture string
		Config           struct{ Entrypoint []string }
	}
	if err := json.Unmarshal(files[saved[0].Config], &config); err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != "arm64" || strings.Join(config.Config.Entrypoint, " ") != "/function" {
		t.Errorf("the config is %+v", config)
	}
	layer := unpack(t, files[saved[0].Layers[0]])
	if len(layer) != 1 || layer["function"] == nil {
		t.Fatalf("the layer has %d files", len(layer))
	}
	f, err := elf.NewFile(bytes.NewReader(layer["function"]))
	if err != nil {
		t.Fatal(err)
	}
	if f.Machine != elf.EM_AARCH64 || f.Section(".symtab") != nil {
		t.Errorf("the program is for %s; symbols: %v", f.Machine, f.Section(".symtab"))
	}
}

func TestWhatCannotBeBuilt(t *testing.T) {
	t.Parallel()
	root := source(t, map[string]string{
		"m/file":           "",
		"m/broken/go.mod":  "module broken\n",
		"m/broken/main.go": "package main\n\nfunc main() { undefined() }\n",
		"m/lib/go.mod":     "module lib\n",
		"m/lib/lib.go":     "package lib\n",
		"m/empty/go.mod":   "module empty\n",
		"out/go.mod":       "module out\n",
		"out/main.go":      program,
		"mm/main.go":       program,
	})
	if err := os.Symlink("../out", filepath.Join(root, "m/link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ source, want, printed string }{
		{"..", "lies outside of the directory of the manifest", ""},
		{"../out", "lies outside of the directory of the manifest", ""},
		{"../mm", "lies outside of the directory of the manifest", ""},
		{"link", "lies outside of the directory of the manifest", ""},
		{"/etc", "is an absolute path", ""},
		{"nowhere", "the source nowhere is not there", ""},
		{"file", "the source file is not a directory", ""},
		{"broken", "broken does not compile", "./main.go:3:15: undefined: undefined\n"},
		{"lib", "lib has no program in it: package main", ""},
		{"empty", "empty does not compile", "no Go files"},
	} {
		temp := t.TempDir()
		var printed bytes.Buffer
		_, err := build.Build(t.Context(), build.Options{
			Root: filepath.Join(root, "m"), Source: c.source, Runtime: "go", Env: append(os.Environ(), "GOTMPDIR="+temp), Output: &printed,
		})
		if !core.IsKind(err, core.KindInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error is %v and should have %q", c.source, err, c.want)
		}
		if !strings.Contains(printed.String(), c.printed) {
			t.Errorf("%s: the compiler printed %q and should have %q", c.source, printed.String(), c.printed)
		}
	}
}

func TestNoGoTool(t *testing.T) {
	t.Parallel()
	for _, env := range [][]string{nil, {"PATH="}, {"PATH=" + t.TempDir()}, append(os.Environ(), "PATH=.:relative")} {
		_, err := build.Build(t.Context(), build.Options{Root: hello(t), Source: "hello", Runtime: "go", Env: env})
		if !core.IsKind(err, core.KindInvalid) || !strings.Contains(err.Error(), "the go tool was not found in PATH") {
			t.Errorf("with %v the error is %v", env, err)
		}
	}
	_, err := build.Build(t.Context(), build.Options{Root: hello(t), Source: "hello", Runtime: "cobol"})
	if !core.IsKind(err, core.KindInvalid) {
		t.Errorf("another runtime gives %v", err)
	}
}

func TestInterruptedBuildSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := build.Build(ctx, build.Options{Root: hello(t), Source: "hello", Runtime: "go", Env: os.Environ()})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

// TestNothingIsLeftBehind is not parallel: it looks at the directory of
// temporary files, which is a variable of the process.
func TestNothingIsLeftBehind(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	left := func() int {
		entries, err := os.ReadDir(temp)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	image, err := build.Build(t.Context(), build.Options{Root: hello(t), Source: "hello", Runtime: "go", Arch: runtime.GOARCH, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	if left() != 1 || image.Size == 0 {
		t.Errorf("%d directories, a program of %s", left(), image.Size)
	}
	if _, err := image.WriteTar(io.Discard, ""); err != nil {
		t.Error(err)
	}
	if err := image.Close(); err != nil {
		t.Error(err)
	}
	if _, err := build.Build(t.Context(), build.Options{Root: t.TempDir(), Source: ".", Runtime: "go", Env: os.Environ()}); err == nil {
		t.Error("an empty directory was built")
	}
	if left() != 0 {
		t.Errorf("%d directories are left", left())
	}
}
