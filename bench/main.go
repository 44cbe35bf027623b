// Command bench measures Dayfly: go run . COMMAND, with one command for each
// measure, and doc, which writes docs/performance.md from the results.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dayfly-io/dayfly/bench/load"
	"github.com/dayfly-io/dayfly/bench/measure"
	"github.com/dayfly-io/dayfly/bench/peer"
	"github.com/dayfly-io/dayfly/bench/report"
	"github.com/dayfly-io/dayfly/bench/result"
)

const usage = `usage: go run . COMMAND [flags]

  cold      time from a request to the first byte, when no instance is there
  coldrate  instances started, used and taken down per second
  hot       calls per second of instances that are there, against none of us
  fdk       calls per second of functions of the contract fdk, against a plain proxy
  memory    memory of the server, idle and after a million calls
  unpack    loading and unpacking an image
  functions start of a server, and calls, with 100,000 functions and with ten
  frozen    memory of a server with 2,000 frozen instances, and thawing them
  runtimes  cold starts of Node and Python functions, against plain processes
  doc       write docs/performance.md from the newest results

go run . COMMAND -h lists the flags of a command.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// take is a measure whose flags have been read.
type take func(context.Context, *measure.Bench) error

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return flag.ErrHelp
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	results := flags.String("results", "results", "directory of the results")
	program := flags.String("program", "../bin/dayfly", "the dayfly to measure")
	peers := flags.String("peers", ".peers", "directory with peers that are not installed, as run.sh fetches them")
	measures := map[string]func(*flag.FlagSet) take{
		"cold": cold, "coldrate": coldRate, "hot": hot, "fdk": fdk, "memory": memory, "unpack": unpack,
		"functions": functions, "frozen": frozen, "runtimes": runtimes,
	}
	if args[0] == peer.ProxyCommand && len(args) == 3 { // started by hot, where it already is
		return peer.RunProxy(ctx, args[1], args[2])
	}
	if args[0] == peer.SocketProxyCommand && len(args) == 4 { // started by fdk, likewise
		return peer.RunSocketProxy(ctx, args[1], args[2], args[3])
	}
	if args[0] == "doc" {
		out := flags.String("o", "../docs/performance.md", "file to write")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return report.Write(*out, *results)
	}
	prepare, ok := measures[args[0]]
	if !ok {
		fmt.Fprint(os.Stderr, usage)
		return fmt.Errorf("there is no command %q", args[0])
	}
	do := prepare(flags)
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if inside, err := enter(ctx); err != nil || !inside {
		return err
	}
	return measureOne(ctx, args, *program, *results, *peers, do)
}

// measureOne takes one measure, in a directory of its own.
func measureOne(ctx context.Context, args []string, program, results, peers string, do take) error {
	program, err := filepath.Abs(program)
	if err != nil {
		return err
	}
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("there is no program to measure (make build makes it): %w", err)
	}
	dir, err := os.MkdirTemp("", "dayfly-bench-")
	if err != nil {
		return fmt.Errorf("make a directory for the run: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left of it does no harm
	out, err := result.Create(results, result.Describe(args[0], program, dir, args[1:]))
	if err != nil {
		return err
	}
	b := &measure.Bench{
		Program: program, Dir: dir, PeerEnv: peerEnv(peers), Out: out, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	err = do(ctx, b)
	if err != nil {
		err = errors.Join(err, out.Note("the run failed: %v", err))
	}
	r, cerr := out.Close(err == nil)
	if err := errors.Join(err, cerr); err != nil {
		return err
	}
	fmt.Printf("%s\nraw results: %s\n", report.Section(r), out.Path())
	return nil
}

// peerEnv gives an environment in which the peers of a directory are found,
// behind those that are installed.
func peerEnv(dir string) []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "PATH=") && !strings.HasPrefix(e, "LD_LIBRARY_PATH=") {
			env = append(env, e)
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir
	}
	libraries, _ := filepath.Glob(abs + "/lib/*-linux-gnu*") // the pattern is a good one
	return append(env, "LD_LIBRARY_PATH="+strings.Join(append(libraries, os.Getenv("LD_LIBRARY_PATH")), ":"),
		"PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin:"+abs+"/usr/bin:"+abs+"/usr/sbin")
}

func cold(f *flag.FlagSet) take {
	var o measure.ColdOptions
	f.IntVar(&o.Calls, "n", 200, "cold starts of each variant of ours and of the plain process")
	f.IntVar(&o.PeerCalls, "peers-n", 40, "cold starts of each other peer")
	f.IntVar(&o.Rounds, "rounds", 10, "rounds into which they are divided")
	return func(ctx context.Context, b *measure.Bench) error { return measure.Cold(ctx, b, o) }
}

func coldRate(f *flag.FlagSet) take {
	var o measure.ColdRateOptions
	f.IntVar(&o.Rounds, "rounds", 3, "rounds")
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "of one variant in one round")
	f.IntVar(&o.Connections, "c", 4, "callers at a time")
	f.IntVar(&o.Functions, "functions", 2000, "http functions of each network that take turns")
	return func(ctx context.Context, b *measure.Bench) error { return measure.ColdRate(ctx, b, o) }
}

func hot(f *flag.FlagSet) take {
	o := measure.HotOptions{Clients: []int{1, 8, 32}, Shapes: []measure.HotShape{measure.HotMain, {Instances: 32, PerInstance: 1}}}
	hotFlags(f, &o)
	f.Func("shapes", "instances.max x concurrency.per_instance (4x32,32x1)", shapes(&o.Shapes))
	return func(ctx context.Context, b *measure.Bench) error { return measure.Hot(ctx, b, o) }
}

func fdk(f *flag.FlagSet) take {
	o := measure.FDKOptions{HotOptions: measure.HotOptions{Clients: []int{1, 8, 32}}}
	hotFlags(f, &o.HotOptions)
	f.IntVar(&o.Instances, "instances", 32, "instances.max, and processes behind the proxy")
	return func(ctx context.Context, b *measure.Bench) error { return measure.Fdk(ctx, b, o) }
}

// hotFlags are those of measures of hot calls.
func hotFlags(f *flag.FlagSet, o *measure.HotOptions) {
	f.IntVar(&o.Rounds, "rounds", 6, "rounds")
	f.DurationVar(&o.Duration, "duration", 3*time.Second, "of one variant in one round")
	f.DurationVar(&o.Warm, "warm", time.Second, "of each variant before")
	f.Func("clients", "numbers of callers at a time (1,8,32)", numbers(&o.Clients))
	f.Func("client", "what makes the load: wrk or own (wrk where it is installed)", func(s string) (err error) {
		switch s {
		case "own":
			o.Client = load.Own{}
		case "wrk":
			o.Client, err = load.FindWrk()
		default:
			err = errors.New("it is wrk or own")
		}
		return err
	})
}

// numbers reads a list of numbers.
func numbers(to *[]int) func(string) error {
	return func(s string) error {
		*to = nil
		for part := range strings.SplitSeq(s, ",") {
			n, err := strconv.Atoi(part)
			if err != nil || n < 1 {
				return fmt.Errorf("%q is not a number over 0", part)
			}
			*to = append(*to, n)
		}
		return nil
	}
}

// shapes reads a list of pairs of numbers.
func shapes(to *[]measure.HotShape) func(string) error {
	return func(s string) error {
		*to = nil
		for part := range strings.SplitSeq(s, ",") {
			most, each, _ := strings.Cut(part, "x")
			n, nerr := strconv.Atoi(most)
			per, perr := strconv.Atoi(each)
			if err := errors.Join(nerr, perr); err != nil || n < 1 || per < 1 {
				return fmt.Errorf("%q is not two numbers over 0, such as 4x32", part)
			}
			*to = append(*to, measure.HotShape{Instances: n, PerInstance: per})
		}
		return nil
	}
}

func memory(f *flag.FlagSet) take {
	var o measure.MemoryOptions
	f.Int64Var(&o.Calls, "calls", 1_000_000, "calls in all")
	f.IntVar(&o.Connections, "c", 8, "callers at a time")
	f.DurationVar(&o.Settle, "settle", 10*time.Second, "rest before each look")
	return func(ctx context.Context, b *measure.Bench) error { return measure.Memory(ctx, b, o) }
}

func unpack(f *flag.FlagSet) take {
	var o measure.UnpackOptions
	f.IntVar(&o.Rounds, "rounds", 5, "rounds")
	f.IntVar(&o.Megabytes, "mb", 250, "size of the layer, about")
	return func(ctx context.Context, b *measure.Bench) error { return measure.Unpack(ctx, b, o) }
}

func functions(f *flag.FlagSet) take {
	var o measure.FunctionsOptions
	f.IntVar(&o.Few, "few", 10, "functions of the one server")
	f.IntVar(&o.Many, "many", 100_000, "functions of the other server")
	f.IntVar(&o.Starts, "starts", 5, "starts of each")
	f.IntVar(&o.Rounds, "rounds", 6, "rounds of calls")
	f.IntVar(&o.Calls, "calls", 20_000, "calls of each in a round")
	return func(ctx context.Context, b *measure.Bench) error { return measure.Functions(ctx, b, o) }
}

func frozen(f *flag.FlagSet) take {
	var o measure.FrozenOptions
	f.IntVar(&o.Instances, "instances", 2000, "instances that are held")
	f.IntVar(&o.Steps, "steps", 4, "steps in which they are started")
	f.IntVar(&o.Thaws, "thaws", 500, "instances that are called when all are frozen")
	f.DurationVar(&o.Settle, "settle", 5*time.Second, "rest before each look")
	return func(ctx context.Context, b *measure.Bench) error { return measure.Frozen(ctx, b, o) }
}

func runtimes(f *flag.FlagSet) take {
	var o measure.RuntimesOptions
	f.IntVar(&o.Calls, "n", 100, "cold starts of each")
	f.IntVar(&o.Rounds, "rounds", 5, "rounds into which they are divided")
	return func(ctx context.Context, b *measure.Bench) error { return measure.Runtimes(ctx, b, o) }
}
