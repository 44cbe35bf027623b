package build

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// goVariables are what is set for the go tool over the user's environment:
// what decides the bytes of the program is the same for everyone. An empty
// value would let the user's own configuration in, so each has one.
var goVariables = []string{
	"GOOS=linux", "CGO_ENABLED=0", "GOFLAGS=-trimpath",
	"GO386=sse2", "GOAMD64=v1", "GOARM=7", "GOARM64=v8.0", "GOPPC64=power8", "GORISCV64=rva20u64",
}

// compileGo compiles the program in the directory to a static binary.
func compileGo(ctx context.Context, source, binary string, opt Options) error {
	tool, err := lookUp("go", opt.Env)
	if err != nil {
		return err
	}
	//nolint:gosec // the tool is the user's own, found in the user's PATH
	cmd := exec.CommandContext(ctx, tool, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", binary, ".")
	cmd.Dir = source
	cmd.Env = append(append([]string{}, opt.Env...), goVariables...)
	cmd.Env = append(cmd.Env, "GOARCH="+opt.Arch, "PWD="+source)
	cmd.Stdout, cmd.Stderr = opt.Output, opt.Output
	// It is asked to end, and so removes what it was working on.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	// The compiler's own children may hold the output open after it is killed.
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	switch exit, failed := errors.AsType[*exec.ExitError](err); {
	case ctx.Err() != nil:
		return fmt.Errorf("compile %s: %w", opt.Source, context.Cause(ctx))
	case failed:
		return core.Invalid("%s does not compile: go build ended with code %d; what it printed stands above", opt.Source, exit.ExitCode())
	case err != nil:
		return fmt.Errorf("run the go tool: %w", err)
	}
	return nil
}

// lookUp finds a program in the PATH of an environment.
func lookUp(tool string, env []string) (string, error) {
	for _, e := range slices.Backward(env) {
		list, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			path := filepath.Join(dir, tool)
			if info, err := os.Stat(path); filepath.IsAbs(path) && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return path, nil
			}
		}
		break
	}
	return "", core.Invalid("the %s tool was not found in PATH: install Go from https://go.dev/dl, or name an image in place of build", tool)
}

// checkProgram refuses what compiled but cannot be started: a package that is
// no program.
func checkProgram(binary, source string) (core.Bytes, error) {
	info, err := os.Stat(binary)
	if err != nil {
		return 0, core.Invalid("%s has no program in it: package main with a func main is needed", source)
	}
	f, err := elf.Open(binary)
	if err != nil {
		return 0, core.Invalid("%s has no program in it: package main with a func main is needed", source)
	}
	defer f.Close() //nolint:errcheck // it was only read
	if libs, err := f.ImportedLibraries(); err != nil || len(libs) > 0 {
		return 0, core.Invalid("the program in %s needs shared libraries %v, which the image would not have", source, libs)
	}
	return core.Bytes(info.Size()), nil
}
