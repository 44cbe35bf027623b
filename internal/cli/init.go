package cli

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/manifest"
)

// templates holds the first functions: for each runtime a directory, for each
// contract a source file in it. They are text here, so that they are no part
// of this program.
//
//go:embed template
var templates embed.FS

func (s *session) initCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init NAME",
		Short: "Write a first function into the directory NAME",
		Long: `Write a first function into the directory NAME: a dayfly.yaml, a program and
what is needed to build it, with nothing to download. Files that are there
already are not touched: then nothing is written.`,
		Example: `  dayfly init hello && cd hello && dayfly deploy
  dayfly init count --contract job`,
		Args: names("NAME"),
	}
	language := cmd.Flags().String("runtime", manifest.RuntimeGo, "`LANGUAGE` the function is written in: go")
	contract := cmd.Flags().String("contract", api.ContractHTTP, "`CONTRACT`: how the process is talked to, http or job")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		if *language != manifest.RuntimeGo {
			return usageError(cmd, "--runtime %q is not known: it is go", *language)
		}
		if *contract != api.ContractHTTP && *contract != api.ContractJob {
			return usageError(cmd, "--contract %q is not known: it is http or job", *contract)
		}
		files, err := firstFunction(name, *contract)
		if err != nil {
			return usageError(cmd, "%s", err)
		}
		if err := writeNew(name, files); err != nil {
			return err
		}
		s.chat("Wrote %s with %s. Next:\n  cd %s\n  dayfly deploy\n  dayfly invoke %s -d '%s'",
			name, strings.Join(fileNames(files), ", "), name, name, sample(*contract))
		return nil
	}
	return cmd
}

func sample(contract string) string {
	if contract == api.ContractJob {
		return "one two three"
	}
	return `{"name":"world"}`
}

// newFile is a file that init writes.
type newFile struct {
	name string
	text []byte
}

// firstFunction gives the files of a function; the error says that its name
// cannot be one.
func firstFunction(name, contract string) ([]newFile, error) {
	text := fmt.Sprintf("functions:\n  %q:\n    build: {runtime: go, source: .}\n    contract: %s\n", name, contract)
	if contract == api.ContractJob {
		text += "    content_type: application/json\n"
	}
	if _, err := manifest.Parse(manifest.Name, []byte(text)); err != nil {
		return nil, err
	}
	// A quoted name is for names that YAML would take for something else.
	text = strings.Replace(text, fmt.Sprintf("%q:", name), name+":", 1)
	if _, err := manifest.Parse(manifest.Name, []byte(text)); err != nil {
		text = strings.Replace(text, name+":", fmt.Sprintf("%q:", name), 1)
	}
	source, err := templates.ReadFile("template/go/" + contract + ".go.txt")
	if err != nil {
		return nil, fmt.Errorf("read a template: %w", err)
	}
	return []newFile{
		{manifest.Name, []byte(text)},
		{"main.go", source},
		{"go.mod", []byte("module function\n\ngo 1.25\n")},
	}, nil
}

func fileNames(files []newFile) []string {
	var out []string
	for _, f := range files {
		out = append(out, f.name)
	}
	return out
}

// writeNew writes files into a directory, none of them when one is there
// already.
func writeNew(dir string, files []newFile) error {
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.name)); err == nil {
			return &failure{code: exitConflict, err: fmt.Errorf("%s is there already: nothing was written", filepath.Join(dir, f.name))}
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of the function: %w", err)
	}
	for _, f := range files {
		if err := writeFile(filepath.Join(dir, f.name), f.text); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path string, text []byte) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &failure{code: exitConflict, err: fmt.Errorf("%s is there already", path)}
	}
	if err != nil {
		return fmt.Errorf("write a file of the function: %w", err)
	}
	_, err = out.Write(text)
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("write a file of the function: %w", err)
	}
	return nil
}
