// Command dayfly turns container images into functions and jobs: server,
// command line, container runtime and store in one program.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/dayfly-io/dayfly/internal/cli"
	"github.com/dayfly-io/dayfly/internal/server"
)

// version is set when the program is linked.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal is not caught: it ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Main(ctx, cli.Program{
		Args: os.Args[1:], Env: os.Environ(), Version: version,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}, server.Command(version), server.Doctor()))
}
