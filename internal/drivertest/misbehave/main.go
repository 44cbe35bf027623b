// Command misbehave is the function of the drivers' tests: one static program
// that does, by its first argument, what functions do to those who run them.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
)

// modes are what it can do; each gets the further arguments.
var modes = map[string]func(args []string){
	"argument":  argument,
	"bomb":      bomb,
	"breathe":   breathe,
	"children":  children,
	"copy":      copyStdin,
	"daemon":    daemon,
	"dial":      dialAll,
	"eat":       eat,
	"escape":    escape,
	"exit":      exit,
	"facts":     facts,
	"feed":      feed,
	"flood":     flood,
	"fork":      fork,
	"hoard":     hoard,
	"kill":      killSelf,
	"leave":     leave,
	"lookup":    lookup,
	"overwrite": overwrite,
	"print":     printBoth,
	"reach":     reach,
	"scribble":  scribble,
	"serve":     serve,
	"signals":   signals,
	"sleep":     sleep,
	"socket":    socket,
	"spin":      spin,
	"try":       try,
}

func main() {
	if len(os.Args) < 2 {
		fail("name a mode, one of %s", known())
	}
	mode, ok := modes[os.Args[1]]
	if !ok {
		fail("there is no mode %q, only %s", os.Args[1], known())
	}
	mode(os.Args[2:])
}

func known() string {
	var names []string
	for name := range modes {
		names = append(names, name)
	}
	sort.Strings(names)
	return strings.Join(names, " ")
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "misbehave: "+format+"\n", args...)
	os.Exit(99)
}

func must[T any](v T, err error) T {
	if err != nil {
		fail("%v", err)
	}
	return v
}
