package compile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// numbersModule holds the system call tables of all architectures, made from the kernel's headers.
const numbersModule = "golang.org/x/sys"

// Numbers reads the system call numbers of an architecture, named as GOARCH does, from the source of golang.org/x/sys
// that the surrounding module requires. The names are the kernel's: lower case, without the __NR_. It runs `go list`,
// which may download the module, and errors when there is no such module or architecture or the table does not parse.
func Numbers(ctx context.Context, arch string) (map[string]uint32, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", numbersModule)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("find the source of %s: %w: %s", numbersModule, err, bytes.TrimSpace(stderr.Bytes()))
	}
	dir := strings.TrimSpace(string(out))
	if dir == "" {
		return nil, fmt.Errorf("find the source of %s: it is not downloaded; run go mod download", numbersModule)
	}
	// The Go tool would leave out the tables of other architectures, so the file is read as text.
	path := filepath.Join(dir, "unix", "zsysnum_linux_"+arch+".go")
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("system calls of %s: %w", arch, err)
	}
	numbers, err := tableOf(file)
	if err != nil {
		return nil, fmt.Errorf("system calls of %s: %s: %w", arch, path, err)
	}
	return numbers, nil
}

// tableOf collects constants of the form SYS_NAME = 123.
func tableOf(file *ast.File) (map[string]uint32, error) {
	numbers := map[string]uint32{}
	for _, decl := range file.Decls {
		consts, ok := decl.(*ast.GenDecl)
		if !ok || consts.Tok != token.CONST {
			continue
		}
		for _, spec := range consts.Specs {
			value, ok := spec.(*ast.ValueSpec)
			if !ok || len(value.Names) != 1 || len(value.Values) != 1 {
				return nil, errors.New("a constant is not of the form SYS_NAME = number")
			}
			name, ok := strings.CutPrefix(value.Names[0].Name, "SYS_")
			literal, isLiteral := value.Values[0].(*ast.BasicLit)
			if !ok || !isLiteral {
				return nil, fmt.Errorf("constant %s is not of the form SYS_NAME = number", value.Names[0].Name)
			}
			number, err := strconv.ParseUint(literal.Value, 0, 32)
			if err != nil {
				return nil, fmt.Errorf("constant %s: %w", value.Names[0].Name, err)
			}
			numbers[strings.ToLower(name)] = uint32(number)
		}
	}
	if len(numbers) == 0 {
		return nil, errors.New("no system calls in it")
	}
	return numbers, nil
}
