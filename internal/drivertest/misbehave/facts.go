package main

import (
	"encoding/json"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// facts DIR... prints what the process sees of itself and around it, and in the
// directories, as JSON; its reader is Facts of package drivertest.
func facts(dirs []string) {
	listed := map[string][]string{}
	for _, dir := range dirs {
		listed[dir] = names(dir)
	}
	addresses := []string{}
	for _, a := range must(net.InterfaceAddrs()) {
		addresses = append(addresses, a.String())
	}
	say(map[string]any{
		"args": os.Args, "env": os.Environ(), "pid": os.Getpid(), "parent": os.Getppid(),
		"uid": os.Getuid(), "gid": os.Getgid(), "groups": must(os.Getgroups()),
		"dir": must(os.Getwd()), "hostname": must(os.Hostname()), "status": status("/proc/self/status"),
		"mounts": lines("/proc/self/mountinfo"), "uid_map": fields("/proc/self/uid_map"), "gid_map": fields("/proc/self/gid_map"),
		"files": files(), "namespaces": links("/proc/self/ns"), "addresses": addresses,
		"processes": numbers("/proc"), "cgroup": lines("/proc/self/cgroup"), "limits": limits(),
		"hosts": lines("/etc/hosts"), "resolv": lines("/etc/resolv.conf"), "name_file": lines("/etc/hostname"),
		"root": names("/"), "dev": names("/dev"), "listed": listed,
		"empty": map[string]int{
			"/proc/kcore": size("/proc/kcore"), "/proc/keys": size("/proc/keys"), "/proc/timer_list": size("/proc/timer_list"),
			"/sys/firmware": len(names("/sys/firmware")), "/proc/acpi": len(names("/proc/acpi")), "/proc/scsi": len(names("/proc/scsi")),
		},
	})
}

func say(v any) {
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		fail("%v", err)
	}
}

func lines(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return []string{err.Error()}
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

func fields(path string) []string { return strings.Fields(strings.Join(lines(path), " ")) }

func status(path string) map[string]string {
	m := map[string]string{}
	for _, l := range lines(path) {
		k, v, _ := strings.Cut(l, ":")
		m[k] = strings.TrimSpace(v)
	}
	return m
}

// files gives the open files by number; this one's own listing is not among
// them.
func files() map[string]string {
	d := must(os.Open("/proc/self/fd"))
	all := links("/proc/self/fd")
	for number, to := range all {
		if strings.HasPrefix(to, "/proc/") || to == "anon_inode:[eventpoll]" || to == "anon_inode:[eventfd]" {
			delete(all, number)
		}
	}
	_ = d.Close()
	return all
}

func links(dir string) map[string]string {
	m := map[string]string{}
	for _, name := range names(dir) {
		if to, err := os.Readlink(dir + "/" + name); err == nil {
			m[name] = to
		}
	}
	return m
}

func names(dir string) []string {
	out := []string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return out
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func numbers(dir string) []string {
	out := []string{}
	for _, n := range names(dir) {
		if strings.Trim(n, "0123456789") == "" {
			out = append(out, n)
		}
	}
	return out
}

// size gives how many bytes can be read, at most 64.
func size(path string) int {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	n, err := f.Read(make([]byte, 64))
	if err != nil {
		return 0
	}
	return n
}

func limits() map[string]uint64 {
	m := map[string]uint64{}
	for name, which := range map[string]int{"files": unix.RLIMIT_NOFILE, "core": unix.RLIMIT_CORE, "locked": unix.RLIMIT_MEMLOCK} {
		var l unix.Rlimit
		if unix.Getrlimit(which, &l) == nil {
			m[name] = l.Max
		}
	}
	return m
}
