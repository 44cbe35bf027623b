package server

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/dayfly-io/dayfly/internal/contract/fdk"
	"github.com/dayfly-io/dayfly/internal/contract/web"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/deploy"
	"github.com/dayfly-io/dayfly/internal/docker"
	"github.com/dayfly-io/dayfly/internal/image"
	"github.com/dayfly-io/dayfly/internal/image/registry"
	"github.com/dayfly-io/dayfly/internal/invoke"
	"github.com/dayfly-io/dayfly/internal/pool"
	"github.com/dayfly-io/dayfly/internal/sandbox"
)

// The drivers.
const (
	// DriverAuto is DriverSandbox where that works, else DriverDocker.
	DriverAuto = "auto"
	// DriverSandbox is the driver that is built in.
	DriverSandbox = sandbox.Name
	// DriverDocker is that of a Docker engine, which keeps the images too.
	DriverDocker = docker.Name
)

// driver is what a driver is to the server: the ports of those who use it.
type driver interface {
	pool.Driver
	web.Dialer
	fdk.Dialer
	Capabilities() core.Capabilities
}

// openDriver opens the driver that the configuration asks for, and the images
// that go with it.
func (s *Server) openDriver(ctx context.Context) (driver, deploy.Images, error) {
	switch s.cfg.Driver {
	case DriverSandbox:
		return s.openSandbox(ctx)
	case DriverDocker:
		return s.openDocker(ctx)
	}
	d, images, err := s.openSandbox(ctx)
	if err == nil || ctx.Err() != nil || core.IsKind(err, core.KindConflict) {
		return d, images, err
	}
	d, images, dockerErr := s.openDocker(ctx)
	if dockerErr != nil {
		return nil, nil, core.Unavailable(core.ReasonStartFailed, errors.Join(err, dockerErr),
			"nothing here can run functions: neither the driver sandbox nor a Docker engine; mend one of these, and name it with --driver to be told only of that")
	}
	s.log.Warn("functions run in the Docker engine, since the driver sandbox does not work here; name a driver with --driver to have no choice",
		slog.Any("error", err))
	return d, images, nil
}

// peaks gives the driver as one that tells the peak of memory since some time,
// nil for one that cannot.
func peaks(d driver) invoke.Peaks {
	p, _ := d.(invoke.Peaks)
	return p
}

func (s *Server) openSandbox(ctx context.Context) (driver, deploy.Images, error) {
	registries, err := s.cfg.registries()
	if err != nil {
		return nil, nil, err
	}
	owners, err := sandbox.Owners()
	if err != nil {
		return nil, nil, err
	}
	images, err := image.Open(ctx, filepath.Join(s.cfg.Data, "images"), image.Options{Registries: registries, Owners: owners, Logger: s.log})
	if err != nil {
		return nil, nil, err
	}
	d, err := sandbox.Open(ctx, sandbox.Options{
		Dir: filepath.Join(s.cfg.Data, "sandbox"), Images: images, Prepared: s.cfg.Prepared,
		Directories: s.cfg.Mounts, Notice: s.cfg.notice, Log: s.log,
	})
	if err != nil {
		return nil, nil, errors.Join(err, images.Close())
	}
	s.parts.Push("images", images.Close)
	s.parts.Push("driver", func() error { return d.Close(context.WithoutCancel(ctx)) })
	// Nothing waits for what a former server left running: it ends.
	for _, spec := range d.Left() {
		if _, err := d.Adopt(spec.ID, core.Stdio{}); err != nil {
			return nil, nil, err
		}
		if err := d.Stop(ctx, spec.ID, 0); err != nil {
			return nil, nil, err
		}
	}
	return d, images, nil
}

func (s *Server) openDocker(ctx context.Context) (driver, deploy.Images, error) {
	d, err := docker.Open(ctx, docker.Options{Dir: filepath.Join(s.cfg.Data, "docker"), Host: s.cfg.DockerHost, Log: s.log})
	if err != nil {
		return nil, nil, err
	}
	s.parts.Push("driver", func() error { return d.Close(context.WithoutCancel(ctx)) })
	return d, d.Images(registry.DockerConfig{}), nil
}

// tellMissing says at the start what the driver does not do on this machine.
func (s *Server) tellMissing() {
	for _, m := range s.can.Missing {
		s.log.Warn("this machine could do more", slog.String("driver", s.can.Driver), slog.String("missing", m.Name),
			slog.String("why", m.Why), slog.String("remedy", m.Remedy))
	}
}
