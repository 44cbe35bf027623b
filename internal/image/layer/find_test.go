package layer_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/image/layer"
)

func TestReadFile(t *testing.T) {
	t.Parallel()
	base := mustUnpack(t, file("etc/a", "base a"), file("etc/b", "base b"), file("opt/x", "base x"), file("usr/lib/c", "base c"),
		symlink("lib", "usr/lib"), file("var/gone/in", "x"), file("srv/f", "srv"), symlink("loop", "loop"), file("big", strings.Repeat("x", 100)),
		symlink("host", "../../../../../etc/hostname"))
	mid := mustUnpack(t, file("etc/.wh.a", ""), file("opt/.wh..wh..opq", ""), file("opt/y", "mid y"), symlink("etc/link", "/lib/../lib/c"), file("var/.wh.gone", ""), file("srv", "now a file"))
	top := mustUnpack(t, file("etc/b", "top b"), file("var/gone/new", "top"), file("usr/lib/d", "top d"))
	layers := []string{base, mid, top}
	for name, want := range map[string]string{
		"etc/b": "top b", "/etc/b": "top b", "opt/y": "mid y", "lib/c": "base c", "lib/d": "top d", "etc/link": "base c",
		"../../etc/b": "top b", "srv": "now a file", "var/gone/new": "top", "etc/../lib/./c": "base c",
	} {
		got, err := layer.ReadFile(layers, name, 50)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"etc/a", "opt/x", "var/gone/in", "srv/f", "none", "etc/none", "host", "etc/b/c"} {
		if got, err := layer.ReadFile(layers, name, 50); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"loop", "big", "etc", "/", "lib"} {
		if got, err := layer.ReadFile(layers, name, 50); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
