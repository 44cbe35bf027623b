package server

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/doctor"
	"github.com/dayfly-io/dayfly/internal/sandbox"
)

// Command gives the command "server". version is that of the program, "" when
// it is not known.
func Command(version string) *cobra.Command {
	c := Config{Version: version}
	var memory, imageSpace string
	var mounts []string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run a Dayfly server on this machine",
		Long: `Run a Dayfly server: the API, the function URLs and the container runtime in one
process. Everything it keeps is in the data directory.

On a loopback address it is open to this machine. On any other address it needs
a token, which callers must show: set DAYFLY_TOKEN.`,
		Example: `  dayfly server
  dayfly server --listen 127.0.0.1:9000 --data /var/lib/dayfly
  DAYFLY_TOKEN=... dayfly server --listen 0.0.0.0:8080`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if c.notice, err = enter(c.Driver); err != nil {
				return err
			}
			if memory != "" {
				m, err := core.ParseBytes(memory)
				if err != nil {
					return err
				}
				c.Memory = m
			}
			for _, m := range mounts {
				d, err := core.ParseHostDirectory(m)
				if err != nil {
					return err
				}
				c.Mounts = append(c.Mounts, d)
			}
			space, err := core.ParseBytes(imageSpace)
			if err != nil {
				return err
			}
			c.ImageSpace = space
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			err = Run(cmd.Context(), c, cmd.OutOrStdout(), log)
			if core.IsKind(err, core.KindConflict) {
				return inUseError{err}
			}
			return err
		},
	}
	c.Token = os.Getenv("DAYFLY_TOKEN")
	c.TuneGC = os.Getenv("GOGC") == ""
	f := cmd.Flags()
	f.StringVar(&c.Listen, "listen", fromEnv("DAYFLY_LISTEN", "127.0.0.1:8080"), "address to listen on (DAYFLY_LISTEN)")
	f.StringVar(&c.Data, "data", fromEnv("DAYFLY_DATA", "dayfly-data"), "directory for everything the server keeps (DAYFLY_DATA)")
	f.StringVar(&c.Driver, "driver", fromEnv("DAYFLY_DRIVER", DriverAuto), "what makes instances: sandbox, docker, or auto, which is sandbox where that works (DAYFLY_DRIVER)")
	f.StringVar(&c.DockerHost, "docker-host", "", "where the Docker engine is (DOCKER_HOST; with TLS by DOCKER_TLS_VERIFY and DOCKER_CERT_PATH)")
	f.StringVar(&memory, "memory", os.Getenv("DAYFLY_MEMORY_TOTAL"), "memory for all instances together, such as 4GiB; four fifths of the machine's unless set")
	f.StringSliceVar(&c.Hosts, "host", splitEnv("DAYFLY_HOSTS"), "further names by which the server is called (DAYFLY_HOSTS)")
	f.StringArrayVar(&mounts, "allow-mount", splitEnv("DAYFLY_ALLOW_MOUNT"), "a directory that functions may mount, `NAME=/path`, behind it :ro (read only) or :exec (programs may run); may be repeated (DAYFLY_ALLOW_MOUNT, with commas)")
	f.IntVar(&c.Prepared, "prepared", 4, "sandboxes kept ready for cold starts, per network; -1 for none")
	f.IntVar(&c.KeepRuns, "keep-runs", 1_000_000, "how many runs the history keeps")
	f.DurationVar(&c.KeepFor, "keep-for", 7*24*time.Hour, "how long the history keeps a run and its log")
	f.DurationVar(&c.KeepImages, "image-keep", 7*24*time.Hour, "how long an image is kept that nothing uses")
	f.StringVar(&imageSpace, "image-space", fromEnv("DAYFLY_IMAGE_SPACE", "20GiB"), "how much the images may take; the least recently used go first (DAYFLY_IMAGE_SPACE)")
	f.StringSliceVar(&c.RegistryInsecure, "registry-insecure", splitEnv("DAYFLY_REGISTRY_INSECURE"), "registries, `HOST[:PORT]`, that may be spoken to without TLS; those on loopback addresses always may (DAYFLY_REGISTRY_INSECURE)")
	f.StringVar(&c.RegistryCA, "registry-ca", os.Getenv("DAYFLY_REGISTRY_CA"), "`FILE` with further authorities (PEM) for the certificates of registries (DAYFLY_REGISTRY_CA)")
	f.DurationVar(&c.Drain, "drain", 10*time.Second, "how long calls under way may take when the server stops")
	f.BoolVarP(&verbose, "verbose", "v", false, "log more")
	return cmd
}

// Doctor gives the command "doctor".
func Doctor() *cobra.Command {
	return doctor.Command(doctor.Options{
		Data: fromEnv("DAYFLY_DATA", "dayfly-data"), Listen: fromEnv("DAYFLY_LISTEN", "127.0.0.1:8080"),
		Now: time.Now,
	}, doctor.Look)
}

// enter makes a plain user's process root of a user namespace, where its driver
// needs that. It comes before all else: the program is started again.
func enter(driver string) (notice string, err error) {
	if driver == DriverDocker {
		return "", nil
	}
	notice, err = sandbox.Enter()
	if err != nil && driver == DriverAuto {
		return "", nil // the sandbox says the same when it is opened, and there may be an engine
	}
	if err != nil {
		return "", fmt.Errorf("run as a plain user: %w", err)
	}
	return notice, nil
}

// inUseError is the error of a server that met another one. Its exit code is
// that of a conflict (contracts: "CLI exit codes").
type inUseError struct{ error }

func (inUseError) ExitCode() int { return 5 }

func (e inUseError) Unwrap() error { return e.error }

func fromEnv(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

func splitEnv(name string) []string {
	v := os.Getenv(name)
	if v == "" {
		return nil
	}
	return strings.Split(v, ",")
}
