package drivertest

import (
	"bytes"
	"context"
	"debug/elf"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image/pack"
)

var program struct {
	once sync.Once
	data []byte
	err  error
}

// Program gives the bytes of the program misbehave, built once per test run;
// or, where there is no compiler, those of the file that the variable
// DAYFLY_TEST_PROGRAM names.
func Program(t testing.TB) []byte {
	t.Helper()
	program.once.Do(func() { program.data, program.err = build(context.WithoutCancel(t.Context())) })
	if program.err != nil {
		t.Fatalf("build the tests' function: %v", program.err)
	}
	return program.data
}

func build(ctx context.Context) ([]byte, error) {
	if path := os.Getenv("DAYFLY_TEST_PROGRAM"); path != "" {
		return os.ReadFile(path)
	}
	dir, err := os.MkdirTemp("", "dayfly-misbehave-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "misbehave")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path,
		"github.com/dayfly-io/dayfly/internal/drivertest/misbehave")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, &buildError{out, err}
	}
	return os.ReadFile(path)
}

type buildError struct {
	out []byte
	err error
}

func (e *buildError) Error() string { return e.err.Error() + ": " + string(e.out) }
func (e *buildError) Unwrap() error { return e.err }

// File is a regular file of an image.
func File(path string, mode fs.FileMode, data []byte) pack.File {
	return pack.File{Path: path, Mode: mode, Open: func() (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(data)), int64(len(data)), nil
	}}
}

// Base gives the image that the tests use: the program, a few users, and files
// that cannot be executed for one reason or another. It runs as root unless
// the config says otherwise.
func Base(t testing.TB, config core.ImageConfig) pack.Image {
	t.Helper()
	return pack.Image{Config: config, Files: []pack.File{
		File("misbehave", 0o755, Program(t)),
		{Path: "bin/behave", Mode: fs.ModeSymlink, Link: "../misbehave"},
		File("plain", 0o644, Program(t)[:4096]),
		File("foreign", 0o755, foreign(t)),
		File("script", 0o755, []byte("echo a script without its first line\n")),
		File("lost-script", 0o755, []byte("#!/no/such/shell\n")),
		File("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\napp:x:1000:2000:the app:/home/app:/bin/sh\n")),
		File("etc/group", 0o644, []byte("root:x:0:\nstaff:x:2000:\nextra:x:3000:app,root\n")),
		File("secret", 0o600, []byte("only root may read this\n")),
		{Path: "work", Mode: fs.ModeDir | 0o755},
		{Path: "locked", Mode: fs.ModeDir | 0o700},
	}}
}

// Misbehave is the entrypoint of [Base].
var Misbehave = core.ImageConfig{Entrypoint: []string{"/misbehave"}}

// foreign is the beginning of the program, for a machine that this one is not.
func foreign(t testing.TB) []byte {
	t.Helper()
	data := slices.Clone(Program(t)[:4096])
	const machineAt = 18 // e_machine of the ELF header (elf(5))
	data[machineAt], data[machineAt+1] = byte(elf.EM_S390), 0
	return data
}

// Tar packs an image.
func Tar(t testing.TB, img pack.Image) io.Reader {
	t.Helper()
	var b bytes.Buffer
	if _, err := pack.Write(&b, img); err != nil {
		t.Fatal(err)
	}
	return &b
}
