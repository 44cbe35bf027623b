package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/dayfly-io/dayfly/internal/access"
	"github.com/dayfly-io/dayfly/internal/catalog"
	"github.com/dayfly-io/dayfly/internal/contract/fdk"
	"github.com/dayfly-io/dayfly/internal/contract/job"
	"github.com/dayfly-io/dayfly/internal/contract/web"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/deploy"
	"github.com/dayfly-io/dayfly/internal/front"
	"github.com/dayfly-io/dayfly/internal/httpapi"
	"github.com/dayfly-io/dayfly/internal/invoke"
	"github.com/dayfly-io/dayfly/internal/lifecycle"
	"github.com/dayfly-io/dayfly/internal/logstore"
	"github.com/dayfly-io/dayfly/internal/maintain"
	"github.com/dayfly-io/dayfly/internal/sequence"
	"github.com/dayfly-io/dayfly/internal/sqlite"
)

// node is the number of this server in ids. One data directory has one server.
const node = 0

// nodeName is what functions are told.
const nodeName = "0"

// cancelGrace is how long a cancelled process has between SIGTERM and SIGKILL.
const cancelGrace = 5 * time.Second

// Server is a running server.
type Server struct {
	cfg   Config
	log   *slog.Logger
	parts lifecycle.Stack
	can   core.Capabilities
	url   string
	http  *front.Server
	done  chan error // of the listener, when it ends by itself
}

// Start starts a server; Stop must be called when it gives no error.
func Start(ctx context.Context, c Config, log *slog.Logger) (*Server, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if c.Data, err = filepath.Abs(c.Data); err != nil {
		return nil, fmt.Errorf("find the data directory: %w", err)
	}
	s := &Server{cfg: c, log: log, done: make(chan error, 1)}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.parts.Stop())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.Data, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	held, err := lock(s.cfg.Data)
	if err != nil {
		return err
	}
	s.parts.Push("lock", held.Close)
	s.sign(held, "which is starting")
	store, logs, err := s.openStores(ctx)
	if err != nil {
		return err
	}
	driver, images, err := s.openDriver(ctx)
	if err != nil {
		return err
	}
	s.can = driver.Capabilities()
	if len(s.cfg.Mounts) > 0 && !s.can.Mounts {
		return core.Errorf(core.KindNotImplemented, core.CodeNotImplemented,
			"functions cannot mount directories of the host with the driver %s: leave --allow-mount out, or choose the driver %s", s.can.Driver, DriverSandbox)
	}
	s.tellMissing()
	functions, err := catalog.Open(ctx, store, s.log)
	if err != nil {
		return err
	}
	s.parts.Push("catalog", func() error { functions.Close(); return nil })
	ids := sequence.New(node, time.Now)
	deployer := deploy.New(ctx, deploy.Config{
		Store: store, Images: images, Catalog: functions, Capabilities: s.can, IDs: ids, Now: time.Now,
	})
	s.parts.Push("deployments", func() error { deployer.Close(); return nil })
	functions.Watch(deployer.Changed)
	upkeep, err := maintain.Start(ctx, maintain.Config{
		Runs: store, Logs: logs, Images: deployer, KeepImages: s.cfg.KeepImages, ImageSpace: s.cfg.ImageSpace, KeepRuns: s.cfg.KeepRuns, KeepFor: s.cfg.KeepFor,
		KeepLogs: maintain.DefaultKeepLogs, Log: s.log,
	})
	if err != nil {
		return err
	}
	s.parts.Push("maintenance", func() error { upkeep.Close(); return nil })
	calls := invoke.New(ctx, invoke.Config{
		Catalog: functions, Store: store, Logs: logs, Images: deployer, Driver: driver, Peaks: peaks(driver), IDs: ids,
		Memory: s.cfg.Memory, Freeze: s.can.Freeze, Log: s.log,
		Web: web.New(driver, web.Options{Node: nodeName, MaxIdle: core.MaxPerInstance}),
		FDK: fdk.New(driver, fdk.Options{Node: nodeName}),
		Job: job.New(driver, job.Options{Node: nodeName, Grace: cancelGrace}),
	})
	s.parts.Push("calls", func() error { calls.Close(); return nil })
	functions.Watch(calls.Changed)
	if err := s.listen(ctx, calls, deployer); err != nil {
		return err
	}
	s.sign(held, "listening on "+strings.TrimPrefix(s.url, "http://"))
	return nil
}

// sign lets a server that finds the data directory in use say by whom. A disk
// that is too full for it is no reason not to run.
func (s *Server) sign(held *os.File, doing string) {
	if err := sign(held, fmt.Sprintf("process %d, %s", os.Getpid(), doing)); err != nil {
		s.log.Warn("the data directory does not say who uses it", slog.Any("error", err))
	}
}

func (s *Server) openStores(ctx context.Context) (*sqlite.Store, *logstore.Store, error) {
	store, err := sqlite.Open(ctx, filepath.Join(s.cfg.Data, "dayfly.db"), sqlite.Options{Log: s.log})
	if err != nil {
		return nil, nil, err
	}
	s.parts.Push("store", store.Close)
	logs, err := logstore.Open(ctx, filepath.Join(s.cfg.Data, "logs.db"), logstore.Options{Log: s.log})
	if err != nil {
		return nil, nil, err
	}
	s.parts.Push("log store", logs.Close)
	return store, logs, nil
}

func (s *Server) listen(ctx context.Context, calls *invoke.Service, deployer *deploy.Service) error {
	loopback, err := access.IsLoopback(s.cfg.Listen)
	if err != nil {
		return err
	}
	door, err := access.New(access.Config{Token: s.cfg.Token, Loopback: loopback, AllowedHosts: s.cfg.Hosts})
	if err != nil {
		return err
	}
	handler := httpapi.New(httpapi.Config{
		Door: door, Invoker: calls, Runs: calls, Deployer: deployer, Versions: deployer, Images: deployer, Instances: calls, Logger: s.log,
		Server: httpapi.Server{Version: s.cfg.Version, Capabilities: s.can, Node: node, StartedAt: time.Now()},
	})
	s.http = front.New(httpapi.NewServer(handler), httpapi.CallPrefix)
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return core.Unavailable(core.CodeUnavailable, err, "cannot listen on %s: choose another address with --listen", s.cfg.Listen)
	}
	s.url = "http://" + l.Addr().String()
	go func() {
		err := s.http.Serve(l)
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		s.done <- err
	}()
	s.parts.Push("listener", func() error { return s.drain(ctx) })
	return nil
}

// drain lets calls under way end, for a while.
func (s *Server) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("calls were still under way when the server stopped; they are cut off", slog.Duration("waited", s.cfg.Drain))
		err = s.http.Close()
	}
	if err != nil {
		return fmt.Errorf("close the listener: %w", err)
	}
	return nil
}

// URL gives the address at which the server answers.
func (s *Server) URL() string { return s.url }

// Stop stops the server: calls under way may end, then everything is taken
// down, and what is pending is written.
func (s *Server) Stop() error { return s.parts.Stop() }

// gcPercent lets the heap grow to three times what is live before it is
// collected: a server's live heap is a few megabytes, and collecting it twice
// as seldom gives its calls a few percent of the processor.
const gcPercent = 200

// Run runs a server until ctx ends, and prints its URL when it is ready.
func Run(ctx context.Context, c Config, out io.Writer, log *slog.Logger) error {
	if c.TuneGC {
		debug.SetGCPercent(gcPercent)
	}
	s, err := Start(ctx, c, log)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "Dayfly is ready: %s\n", s.URL()); err != nil {
		return errors.Join(fmt.Errorf("say that the server is ready: %w", err), s.Stop())
	}
	select {
	case <-ctx.Done():
		log.Info("stopping")
		return s.Stop()
	case err := <-s.done:
		return errors.Join(err, s.Stop())
	}
}
