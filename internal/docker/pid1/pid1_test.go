package pid1_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The committed programs are what their source gives.
func TestProgramsAreBuiltFromTheSource(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "./build.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("build.sh (it needs gcc and gcc-aarch64-linux-gnu): %v\n%s", err, out)
	}
	for _, name := range []string{"init_amd64", "init_arm64"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what its source gives; run go generate ./internal/docker/pid1", name)
		}
	}
}
