// Command pack writes the initramfs of the tests' guest: the program of its
// first process, and modules of its kernel with those that they need, in the
// order in which they can be loaded.
//
//	pack -modules DIR -init FILE -out FILE MODULE...
//
// DIR is a kernel's directory of modules, /lib/modules/VERSION. A name that is
// no module there is taken for one that is built in.
package main

import (
	"bytes"
	"debug/elf"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	modules := flag.String("modules", "", "directory of the kernel's modules")
	program := flag.String("init", "", "program of the first process")
	out := flag.String("out", "", "file to write")
	flag.Parse()
	if err := pack(*modules, *program, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(dir, program, out string, names []string) error {
	order, err := closure(dir, names)
	if err != nil {
		return err
	}
	var a archive
	for _, d := range []string{"dev", "modules", "root"} {
		a.add(d, 0o40755, nil)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	a.add("init", 0o100755, data)
	var list strings.Builder
	for _, path := range order {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		a.add("modules/"+filepath.Base(path), 0o100644, data)
		fmt.Fprintln(&list, filepath.Base(path))
	}
	a.add("modules/order", 0o100644, []byte(list.String()))
	a.add("TRAILER!!!", 0, nil)
	return os.WriteFile(out, a.buf.Bytes(), 0o600)
}

// closure gives the files of the modules and of all that they need, each after
// what it needs.
func closure(dir string, names []string) ([]string, error) {
	paths := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			paths[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for modules: %w", err)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s has no modules (*.ko)", dir)
	}
	var order []string
	var visit func(name string) error
	visit = func(name string) error {
		path, ok := paths[strings.ReplaceAll(name, "-", "_")]
		if !ok || slices.Contains(order, path) {
			return nil
		}
		needs, err := depends(path)
		if err != nil {
			return err
		}
		for _, n := range needs {
			if err := visit(n); err != nil {
				return err
			}
		}
		order = append(order, path)
		return nil
	}
	for _, name := range names {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// depends reads what a module says of itself: zero-terminated "key=value".
// Needs that no symbol shows stand in "softdep".
func depends(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the module %s: %w", path, err)
	}
	defer func() { _ = f.Close() }()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("%s is no module", path)
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read what %s needs: %w", path, err)
	}
	var needs []string
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		if list, ok := strings.CutPrefix(string(entry), "depends="); ok && list != "" {
			needs = append(needs, strings.Split(list, ",")...)
		}
		if list, ok := strings.CutPrefix(string(entry), "softdep=pre: "); ok {
			needs = append(needs, strings.Fields(list)...)
		}
	}
	return needs, nil
}

// archive is a cpio archive in the "newc" format (the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	buf   bytes.Buffer
	inode int
}

func (a *archive) add(name string, mode int, data []byte) {
	a.inode++
	fmt.Fprintf(&a.buf, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	a.buf.WriteString(name)
	a.buf.WriteByte(0)
	a.pad()
	a.buf.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}
