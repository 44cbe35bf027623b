package core

import (
	"path"
	"slices"
	"strings"
)

// Root says whether the process of an instance can write to the root of its
// file system. Its text is read_only or writable(SIZE).
type Root struct {
	// Writable is how much may be written, 0 for nothing: it is in memory, and
	// counts as such. What is written is gone with the instance.
	Writable Bytes
}

const rootReadOnly = "read_only"

// ParseRoot reads read_only, or writable(256MiB).
func ParseRoot(s string) (Root, error) {
	text := strings.TrimSpace(s)
	if text == rootReadOnly {
		return Root{}, nil
	}
	size, open := strings.CutPrefix(text, "writable(")
	size, closed := strings.CutSuffix(size, ")")
	if !open || !closed {
		return Root{}, Invalid("%q is not a root: write read_only, or writable(SIZE), such as writable(64MiB)", s)
	}
	n, err := ParseBytes(size)
	if err != nil {
		return Root{}, Invalid("%q is not a root: %s", s, AsError(err).Message)
	}
	if n == 0 {
		return Root{}, Invalid("%q is not a root: write read_only where nothing is to be writable", s)
	}
	return Root{Writable: n}, nil
}

// MinRoot is the least of a root that can be written to.
const MinRoot = 64 * KiB

// String gives what [ParseRoot] reads.
func (r Root) String() string {
	if r.Writable == 0 {
		return rootReadOnly
	}
	return "writable(" + r.Writable.String() + ")"
}

// MarshalText gives the same text as String.
func (r Root) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what [ParseRoot] reads.
func (r *Root) UnmarshalText(text []byte) error {
	v, err := ParseRoot(string(text))
	if err != nil {
		return err
	}
	*r = v
	return nil
}

// Mount is a directory of the host that a function sees. Functions name what
// an administrator has allowed ([HostDirectory]), never a path of the host.
type Mount struct {
	// Name is that of the directory.
	Name string `json:"name"`
	// Path is where the function finds it: absolute and clean.
	Path string `json:"path"`
	// ReadOnly takes from the function the right to write, also where the
	// administrator has given it.
	ReadOnly bool `json:"read_only,omitempty"`
}

// HostDirectory is a directory of the host that functions may mount.
type HostDirectory struct {
	// Name is how functions call it.
	Name string
	// Path is where it is on the host: absolute and clean.
	Path string
	// ReadOnly is set when no function may write to it.
	ReadOnly bool
	// Exec is set when functions may execute programs in it.
	Exec bool
}

// ParseHostDirectory reads NAME=/path, with :ro, :exec or both behind it.
func ParseHostDirectory(s string) (HostDirectory, error) {
	name, where, ok := strings.Cut(s, "=")
	d := HostDirectory{Name: name, Path: where}
	if !ok {
		return d, Invalid("%q allows no directory: write NAME=/path/on/the/host, or NAME=/path/on/the/host:ro", s)
	}
	if err := ValidateName("directory", name); err != nil {
		return d, err
	}
	for {
		i := strings.LastIndexByte(d.Path, ':')
		if i < 0 || strings.Contains(d.Path[i:], "/") {
			break
		}
		switch o := d.Path[i+1:]; o {
		case "ro":
			d.ReadOnly = true
		case "exec":
			d.Exec = true
		default:
			return d, Invalid("%q has the option %q, which is not known: there are ro and exec", s, o)
		}
		d.Path = d.Path[:i]
	}
	if !strings.HasPrefix(d.Path, "/") || path.Clean(d.Path) != d.Path {
		return d, Invalid("%q names the path %q: write an absolute one, without . and .. in it", s, d.Path)
	}
	if d.Path == "/" {
		return d, Invalid("%q would give functions the whole machine: name a directory", s)
	}
	return d, nil
}

// FindDirectory gives the directory that a mount names. The error says that it
// is not allowed, or not to be written to.
func FindDirectory(allowed []HostDirectory, m Mount) (HostDirectory, error) {
	i := slices.IndexFunc(allowed, func(d HostDirectory) bool { return d.Name == m.Name })
	if i < 0 {
		return HostDirectory{}, Errorf(KindForbidden, CodeForbidden,
			"the server allows no directory %q to be mounted at %s: whoever runs it can, with dayfly server --allow-mount %s=/path/on/the/host",
			m.Name, m.Path, m.Name)
	}
	if allowed[i].ReadOnly && !m.ReadOnly {
		return HostDirectory{}, Errorf(KindForbidden, CodeForbidden,
			"the server allows the directory %q to be read only: set read_only on its mount at %s", m.Name, m.Path)
	}
	return allowed[i], nil
}

// MaxMounts is how many directories of the host a function may see.
const MaxMounts = 16

// keptPaths are those where Dayfly puts something of its own: nothing may be
// mounted there, beneath, or (but for the root of what is kept) above.
var keptPaths = []string{"/proc", "/sys", "/dev", "/run/secrets", "/tmp/iofs"}

func validateMounts(mounts []Mount) error {
	if len(mounts) > MaxMounts {
		return Invalid("there are %d mounts; %d are possible", len(mounts), MaxMounts)
	}
	for i, m := range mounts {
		if err := m.validate(); err != nil {
			return err
		}
		for _, other := range mounts[:i] {
			if beneath(m.Path, other.Path) || beneath(other.Path, m.Path) {
				return Invalid("the mounts %s and %s are in each other's way: choose paths that are not beneath one another", other.Path, m.Path)
			}
		}
	}
	return nil
}

func (m Mount) validate() error {
	if err := ValidateName("directory", m.Name); err != nil {
		return err
	}
	switch {
	case !strings.HasPrefix(m.Path, "/") || path.Clean(m.Path) != m.Path:
		return Invalid("the mount of %q has the path %q: write an absolute one, without . and .. in it", m.Name, m.Path)
	case len(m.Path) > 1024 || strings.ContainsFunc(m.Path, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return Invalid("the path of the mount of %q is too long, or has a control character in it", m.Name)
	case m.Path == "/" || m.Path == "/etc":
		return Invalid("nothing can be mounted at %s: choose a directory of its own, such as /data", m.Path)
	}
	for part := range strings.SplitSeq(m.Path, "/") {
		if len(part) > 255 {
			return Invalid("the path of the mount of %q has a name of more than 255 bytes in it", m.Name)
		}
	}
	for _, kept := range keptPaths {
		if beneath(m.Path, kept) || beneath(kept, m.Path) {
			return Invalid("nothing can be mounted at %s, since %s is Dayfly's own: choose another path, such as /data", m.Path, kept)
		}
	}
	return nil
}

// beneath reports whether p is dir or beneath it. Both are clean.
func beneath(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, dir+"/")
}

// CPUWeight is the share of the processors that an instance gets beside others
// when there are too few for all: one of 200 gets twice as much as one of 100.
type CPUWeight int

// The bounds of a weight, which are those of cgroup v2 (cgroups(7), "cpu.weight").
const (
	MinCPUWeight     CPUWeight = 1
	MaxCPUWeight     CPUWeight = 10_000
	DefaultCPUWeight CPUWeight = 100
)

// NotYet gives the error of a key of a function that Dayfly knows of and cannot
// do yet, nil for any other.
func NotYet(key string) error {
	switch key {
	case "gpus":
		return Errorf(KindNotImplemented, CodeNotImplemented,
			"functions cannot have GPUs yet: leave gpus out, and run what needs one elsewhere, for a function to call over the network")
	case "devices":
		return Errorf(KindNotImplemented, CodeNotImplemented,
			"functions cannot have devices of the host yet: leave devices out; directories can be had, by mounts")
	}
	return nil
}
