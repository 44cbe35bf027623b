package rig

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image/pack"
)

// Workload is a static program that is measured, and its image.
type Workload struct {
	// Name is the name of its image.
	Name string
	// Program is the path of the executable.
	Program string
	// Tar is its image, of one layer.
	Tar []byte
}

// module is the path of the module that has the workloads.
const module = "github.com/dayfly-io/dayfly/bench"

// BuildWorkload compiles bench/workload/NAME into dir and packs it. The
// working directory must be in the module.
func BuildWorkload(ctx context.Context, dir, name string) (Workload, error) {
	w := Workload{Name: name, Program: filepath.Join(dir, name)}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", w.Program, module+"/workload/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return w, fmt.Errorf("build the workload %s: %w: %s", name, err, out)
	}
	var tar bytes.Buffer
	_, err := pack.Write(&tar, pack.Image{
		Name: name,
		Files: []pack.File{{Path: "app", Mode: 0o755, Open: func() (io.ReadCloser, int64, error) {
			f, err := os.Open(w.Program)
			if err != nil {
				return nil, 0, err
			}
			info, err := f.Stat()
			if err != nil {
				return nil, 0, err
			}
			return f, info.Size(), nil
		}}},
		Config: core.ImageConfig{Entrypoint: []string{"/app"}, WorkingDir: "/"},
	})
	if err != nil {
		return w, fmt.Errorf("pack the workload %s: %w", name, err)
	}
	w.Tar = tar.Bytes()
	return w, nil
}
