//go:build linux

// Command gen writes the seccomp filters that internal/sandbox/seccomp embeds, one file for each architecture.
//
//	go generate ./internal/sandbox/seccomp
//
// It may be run from anywhere inside the module, on any architecture, and gives the same bytes each time for the same
// versions of github.com/moby/profiles/seccomp and golang.org/x/sys.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dayfly-io/dayfly/internal/sandbox/seccomp/compile"
)

const target = "github.com/dayfly-io/dayfly/internal/sandbox/seccomp"

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, report io.Writer) error {
	// -e because the package does not load while a file that it embeds is missing.
	out, err := exec.CommandContext(ctx, "go", "list", "-e", "-find", "-f", "{{.Dir}}", target).Output()
	if err != nil {
		return fmt.Errorf("find the directory of %s: %w", target, err)
	}
	dir := strings.TrimSpace(string(out))
	if dir == "" {
		return fmt.Errorf("find the directory of %s: run this inside the module", target)
	}
	for _, arch := range compile.Arches() {
		program, err := filter(ctx, arch)
		if err != nil {
			return fmt.Errorf("filter for %s: %w", arch, err)
		}
		path := filepath.Join(dir, arch+".bpf")
		if err := os.WriteFile(path, compile.Marshal(program), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(report, "%s: %d instructions\n", path, len(program))
	}
	return nil
}

func filter(ctx context.Context, arch string) ([]compile.Instruction, error) {
	numbers, err := compile.Numbers(ctx, arch)
	if err != nil {
		return nil, err
	}
	policy, err := compile.Default(arch, numbers)
	if err != nil {
		return nil, err
	}
	return compile.Compile(policy)
}
