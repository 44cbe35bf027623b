package server

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dayfly-io/dayfly/internal/access"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image/registry"
	"github.com/dayfly-io/dayfly/internal/maintain"
)

// Config is how a server runs. The zero value of each field is good.
type Config struct {
	// Listen is the address to listen on, host:port; 127.0.0.1:8080 unless
	// set. Port 0 chooses a free one.
	Listen string
	// Data is the directory for everything the server keeps; ./dayfly-data
	// unless set.
	Data string
	// Driver makes instances: DriverSandbox, DriverDocker, or DriverAuto, which
	// is meant unless it is set.
	Driver string
	// DockerHost is where the Docker engine is; DOCKER_HOST, or else the usual
	// socket, unless set.
	DockerHost string
	// Memory bounds the sum of the memory limits of all instances; four fifths
	// of the machine's unless set.
	Memory core.Bytes
	// Prepared is how many sandboxes of each network are kept ready; 4 unless
	// set, none when under 0.
	Prepared int
	// Hosts are names by which the server is called besides localhost.
	Hosts []string
	// Mounts are directories of the host that functions may mount.
	Mounts []core.HostDirectory
	// Token is what callers must show who do not come in by loopback.
	Token string
	// KeepRuns and KeepFor bound the history of runs; 1,000,000 and 7 days
	// unless set.
	KeepRuns int
	KeepFor  time.Duration
	// KeepImages is how long an image is kept that nothing uses, and ImageSpace
	// how much the images may take; 7 days and 20 GiB unless set.
	KeepImages time.Duration
	ImageSpace core.Bytes
	// RegistryInsecure are registries that may be spoken to without TLS,
	// besides those on loopback addresses; host or host:port.
	RegistryInsecure []string
	// RegistryCA is a file with authorities (PEM) that sign the certificates
	// of registries, besides those that the system knows.
	RegistryCA string
	// Drain is how long calls under way may take when the server stops; 10 s
	// unless set.
	Drain time.Duration
	// TuneGC sets how often the program collects garbage. It is the whole
	// program's, so that it is for the command and not for tests.
	TuneGC bool
	// Version is that of the program.
	Version string
	// notice is what entering a user namespace gave.
	notice string
}

func (c Config) withDefaults() (Config, error) {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:8080"
	}
	if c.Data == "" {
		c.Data = "dayfly-data"
	}
	if c.Driver == "" {
		c.Driver = DriverAuto
	}
	if all := []string{DriverAuto, DriverSandbox, DriverDocker}; !slices.Contains(all, c.Driver) {
		return c, core.Invalid("there is no driver %q: choose one of %s", c.Driver, strings.Join(all, ", "))
	}
	if err := checkMounts(c.Mounts, c.Data); err != nil {
		return c, err
	}
	if c.Memory == 0 {
		c.Memory = machineMemory() * 4 / 5
	}
	if c.KeepRuns == 0 {
		c.KeepRuns = maintain.DefaultKeepRuns
	}
	if c.KeepFor == 0 {
		c.KeepFor = maintain.DefaultKeepFor
	}
	if c.KeepImages == 0 {
		c.KeepImages = maintain.DefaultKeepImages
	}
	if c.ImageSpace == 0 {
		c.ImageSpace = maintain.DefaultImageSpace
	}
	if c.Drain == 0 {
		c.Drain = 10 * time.Second
	}
	if c.Version == "" {
		c.Version = buildVersion()
	}
	return c, access.CheckListen(c.Listen, c.Token)
}

// checkMounts refuses names that stand there twice, and directories by which
// functions could reach what the server keeps.
func checkMounts(mounts []core.HostDirectory, data string) error {
	data = realPath(data)
	for i, m := range mounts {
		if slices.ContainsFunc(mounts[:i], func(o core.HostDirectory) bool { return o.Name == m.Name }) {
			return core.Invalid("two directories are allowed under the name %q: give each a name of its own", m.Name)
		}
		if p := realPath(m.Path); within(p, data) || within(data, p) {
			return core.Invalid("the directory %s, which functions may mount as %s, has the server's own data in it, or is in it (%s): name another", m.Path, m.Name, data)
		}
	}
	return nil
}

// realPath gives the absolute path without links, as far as it exists.
func realPath(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	for rest := ""; ; abs, rest = filepath.Dir(abs), filepath.Join(filepath.Base(abs), rest) {
		if real, err := filepath.EvalSymlinks(abs); err == nil || abs == "/" {
			return filepath.Join(real, rest)
		}
	}
}

// within reports whether path is dir or beneath it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// registries says how registries are spoken to.
func (c Config) registries() (registry.Options, error) {
	o := registry.Options{Insecure: c.RegistryInsecure, UserAgent: "dayfly/" + c.Version}
	if c.RegistryCA == "" {
		return o, nil
	}
	pem, err := os.ReadFile(c.RegistryCA)
	if err != nil {
		return o, fmt.Errorf("read the authorities of registries: %w", err)
	}
	if o.CAs, err = x509.SystemCertPool(); err != nil {
		return o, fmt.Errorf("read the authorities that the system knows: %w", err)
	}
	if !o.CAs.AppendCertsFromPEM(pem) {
		return o, core.Invalid("the file %s of --registry-ca has no certificate (PEM) in it", c.RegistryCA)
	}
	return o, nil
}

// machineMemory reads how much memory the machine has; 1 GiB where it does not
// say.
func machineMemory() core.Bytes {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return core.GiB
	}
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) >= 2 && f[0] == "MemTotal:" {
			if kib, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				return core.Bytes(kib) * core.KiB
			}
		}
	}
	return core.GiB
}

func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
