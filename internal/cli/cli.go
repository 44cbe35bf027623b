package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/client"
)

// Program is one run of the command line, as a value: tests start it too.
type Program struct {
	// Args are the arguments after the program's name.
	Args []string
	// Env is the environment, K=V.
	Env    []string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Version is that of the program; "" means that it is not known.
	Version string
	// Now tells the time, for relative times; nil means the system's clock.
	Now func() time.Time
}

// Main runs the command line and gives its exit code. When ctx ends, requests
// are cancelled and the code is 130, unless the command ends well all the same.
//
// The extra commands stand beside the ones of this package. One whose error
// has a method ExitCode() int exits with that, with 1 on another error.
func Main(ctx context.Context, p Program, extra ...*cobra.Command) int {
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.Version == "" {
		p.Version = "unknown"
	}
	s := &session{Program: p}
	root := s.root(extra)
	root.SetArgs(append([]string{}, p.Args...))
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	cmd, err := s.execute(ctx, root)
	if err != nil && isBelow(cmd, extra) && !errors.Is(err, context.Canceled) {
		err = ownFailure(err)
	}
	code := exitCode(ctx, err)
	if err != nil && !errors.Is(err, errTold) && code != exitInterrupted {
		s.sayError(err)
	}
	return code
}

// session is what the commands of one run share.
type session struct {
	Program
	url string
	app string
}

// root makes the tree of commands.
func (s *session) root(extra []*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "dayfly",
		Short: "Turn any container image into an event-driven function or job",
		Long: `Dayfly turns any container image into an event-driven function or job.

  dayfly server                              start a server: http://127.0.0.1:8080
  dayfly init hello && cd hello              write a first function
  dayfly deploy                              build it and send it to the server
  dayfly invoke hello -d '{"name":"you"}'    call it

DAYFLY_URL, DAYFLY_APP and DAYFLY_TOKEN say which server, which app and with
which token, where no flag does.`,
		Version:       s.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	group(root)
	root.Args = nil // so that an unknown command is found before its flags
	root.SetVersionTemplate("dayfly {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(cmd, "%s", err) })
	root.PersistentFlags().StringVar(&s.url, "url", "", "`URL` of the server (DAYFLY_URL; default "+client.DefaultURL+")")
	root.PersistentFlags().StringVar(&s.app, "app", "", "`NAME` of the app (DAYFLY_APP; default: "+api.DefaultApp+")")
	root.AddCommand(
		s.appCommand(), s.functionCommand(), s.imageCommand(), s.runCommand(), s.instanceCommand(),
		s.deployCommand(), s.initCommand(), s.invokeCommand(), s.versionCommand(),
	)
	root.AddCommand(extra...)
	root.SetHelpCommand(helpCommand(root))
	plainUseLines(root)
	// A command with subcommands is of no use without one.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	return root
}

// plainUseLines keeps cobra from writing [flags] behind every use line.
func plainUseLines(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	for _, c := range cmd.Commands() {
		plainUseLines(c)
	}
}

// helpCommand makes help, which treats an unknown command as what it is.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Tell about a command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			switch {
			case err != nil:
				return unknownCommand(root, args[0])
			case len(rest) > 0 && cmd.HasSubCommands():
				return unknownCommand(cmd, rest[0])
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// execute runs the command that the arguments name. The name is looked up
// first, so that a mistyped command is not taken for a mistyped flag.
func (s *session) execute(ctx context.Context, root *cobra.Command) (*cobra.Command, error) {
	root.InitDefaultCompletionCmd(s.Args...)
	root.InitDefaultHelpCmd()
	completes := len(s.Args) > 0 && strings.HasPrefix(s.Args[0], cobra.ShellCompRequestCmd)
	if _, _, err := root.Find(s.Args); err != nil && !completes {
		var name string
		if _, scanErr := fmt.Sscanf(err.Error(), "unknown command %q", &name); scanErr != nil {
			return root, usageError(root, "%s", err)
		}
		return root, unknownCommand(root, name)
	}
	return root.ExecuteContextC(ctx) //nolint:wrapcheck // it is the error of one of our commands
}

// isBelow reports whether cmd is one of the commands, or below one.
func isBelow(cmd *cobra.Command, commands []*cobra.Command) bool {
	for ; cmd != nil; cmd = cmd.Parent() {
		if slices.Contains(commands, cmd) {
			return true
		}
	}
	return false
}

// group makes a command that does nothing itself tell of its subcommands.
func group(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		if cmd.HasParent() {
			return usageError(cmd, "%s needs a command: %s", cmd.CommandPath(), verbs(cmd))
		}
		return cmd.Help()
	}
}

func verbs(cmd *cobra.Command) string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return strings.Join(names, ", ")
}

func unknownCommand(cmd *cobra.Command, name string) error {
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		return usageError(cmd, "there is no command %q; did you mean %s?", cmd.CommandPath()+" "+name, strings.Join(near, " or "))
	}
	return usageError(cmd, "there is no command %q", cmd.CommandPath()+" "+name)
}

// names checks the number of arguments; each of want names one, and one in
// brackets may be left out.
func names(want ...string) cobra.PositionalArgs {
	least := len(want)
	for _, w := range want {
		if strings.HasPrefix(w, "[") {
			least--
		}
	}
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least {
			return usageError(cmd, "%s is missing: %s", want[len(args)], cmd.UseLine())
		}
		if len(args) > len(want) {
			return usageError(cmd, "%q is one argument too many: %s", args[len(want)], cmd.UseLine())
		}
		return nil
	}
}

// env gives a variable of the environment, "" when it is not there.
func (s *session) env(name string) string {
	for _, v := range slices.Backward(s.Env) {
		if v, ok := strings.CutPrefix(v, name+"="); ok {
			return v
		}
	}
	return ""
}

// client makes a client of the server that is meant.
func (s *session) client(cmd *cobra.Command) (*client.Client, error) {
	url := s.url
	if url == "" {
		url = s.env("DAYFLY_URL")
	}
	c, err := client.New(url, s.env("DAYFLY_TOKEN"), client.Options{UserAgent: "dayfly/" + s.Version})
	if err != nil {
		return nil, usageError(cmd, "%s", err)
	}
	return c, nil
}

// appOr gives the app that flag or environment name, else the fallback.
func (s *session) appOr(fallback string) string {
	for _, app := range []string{s.app, s.env("DAYFLY_APP")} {
		if app != "" {
			return app
		}
	}
	return fallback
}

// function splits the name of a function, which may have its app in front:
// app/function.
func (s *session) function(arg string) (app, name string) {
	if app, name, ok := strings.Cut(arg, "/"); ok {
		return app, name
	}
	return s.appOr(api.DefaultApp), arg
}

// chat says something to the person, on standard error.
func (s *session) chat(format string, args ...any) {
	fmt.Fprintln(s.Stderr, printable(fmt.Sprintf(format, args...)))
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colour reports whether standard output may be coloured.
func (s *session) colour() bool {
	return isTerminal(s.Stdout) && s.env("NO_COLOR") == "" && s.env("TERM") != "dumb"
}
