package main

import (
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// try OP... does one thing after the other with files and prints, as JSON, by
// OP, what each came to: what was read, or the error. An OP is WHAT:PATH, with
// =TEXT behind it where one is needed.
func try(ops []string) {
	out := map[string]string{}
	for _, op := range ops {
		what, rest, _ := strings.Cut(op, ":")
		path, text, _ := strings.Cut(rest, "=")
		got, err := tries[what](path, text)
		if err != nil {
			got = "error: " + err.Error()
		}
		out[op] = got
	}
	say(out)
}

var tries = map[string]func(path, text string) (string, error){
	"write":  func(path, text string) (string, error) { return "", os.WriteFile(path, []byte(text), 0o644) },
	"append": appendTo,
	"read": func(path, _ string) (string, error) {
		b, err := os.ReadFile(path)
		return string(b), err
	},
	"list": func(path, _ string) (string, error) {
		entries, err := os.ReadDir(path)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, " "), err
	},
	"mkdir":  func(path, _ string) (string, error) { return "", os.Mkdir(path, 0o755) },
	"remove": func(path, _ string) (string, error) { return "", os.Remove(path) },
	"rename": func(path, to string) (string, error) { return "", os.Rename(path, to) },
	"link":   func(path, to string) (string, error) { return "", os.Symlink(to, path) },
	"hard":   func(path, to string) (string, error) { return "", os.Link(to, path) },
	"chmod":  func(path, _ string) (string, error) { return "", os.Chmod(path, 0o4755) },
	"device": func(path, _ string) (string, error) {
		return "", unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
	},
	"run": func(path, _ string) (string, error) {
		b, err := exec.Command(path, "exit", "0").CombinedOutput()
		return string(b), err
	},
	"exists": func(path, _ string) (string, error) {
		_, err := os.Stat(path)
		return "", err
	},
}

func appendTo(path, text string) (string, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return "", err
	}
	if _, err := f.WriteString(text); err != nil {
		return "", err
	}
	return "", f.Close()
}
