package userns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// variable carries word of how entering went, from the one program to the
// other. It is taken out of the environment when it has been read.
const variable = "DAYFLY_USERNS"

// Tools is what a range of ids needs, as it is found on this machine.
type Tools struct {
	NewUIDMap, NewGIDMap string // paths, "" where they are missing
	UIDs, GIDs           []Range
}

// FindTools looks for what a range of ids needs.
func FindTools() (Tools, error) {
	var t Tools
	var err1, err2 error
	if path, err := exec.LookPath("newuidmap"); err == nil {
		t.NewUIDMap = path
	}
	if path, err := exec.LookPath("newgidmap"); err == nil {
		t.NewGIDMap = path
	}
	t.UIDs, err1 = rangesOf(subUIDs)
	t.GIDs, err2 = rangesOf(subGIDs)
	return t, errors.Join(err1, err2)
}

// Lack says what a range of ids lacks, and what to do; "" when nothing.
func (t Tools) Lack() (why, remedy string) {
	switch {
	case t.NewUIDMap == "" || t.NewGIDMap == "":
		return "newuidmap and newgidmap are not installed", "install them (the package uidmap)"
	case len(t.UIDs) == 0:
		return "the user has no range in " + subUIDs, "give one: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER"
	case len(t.GIDs) == 0:
		return "the user has no range in " + subGIDs, "give one: usermod --add-subgids 100000-165535 USER"
	}
	return "", ""
}

// Enter makes the process root of a user namespace and starts the program
// again in it, with the same arguments. It returns only with an error; how it
// went otherwise the restarted program learns by [Arrive].
func Enter(args []string) error {
	tools, err := FindTools()
	if err != nil {
		return err
	}
	self, err := os.OpenFile("/proc/self/exe", unix.O_PATH, 0)
	if err != nil {
		return fmt.Errorf("open the server's own program: %w", err)
	}
	defer func() { _ = self.Close() }()
	// The number must last until the helper has read it; it closes the file
	// when it executes.
	if _, err := unix.FcntlInt(self.Fd(), unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("keep the server's own program open: %w", err)
	}
	fd, err := unix.MemfdCreate("dayfly-enter", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make a memory file: %w", err)
	}
	helper := os.NewFile(uintptr(fd), "dayfly-enter")
	defer func() { _ = helper.Close() }()
	if _, err := helper.Write(program); err != nil {
		return fmt.Errorf("fill a memory file: %w", err)
	}
	argv := []string{
		"dayfly", strconv.FormatUint(uint64(self.Fd()), 10),
		fmt.Sprintf("0 %d 1\n", os.Getuid()), fmt.Sprintf("0 %d 1\n", os.Getgid()),
	}
	if why, _ := tools.Lack(); why == "" {
		argv = append(argv, arguments(tools.NewUIDMap, os.Getpid(), os.Getuid(), tools.UIDs)...)
		argv = append(argv, "")
		argv = append(argv, arguments(tools.NewGIDMap, os.Getpid(), os.Getgid(), tools.GIDs)...)
		argv = append(argv, "")
	} else {
		argv = append(argv, "", "")
	}
	argv = append(argv, args...)
	env := append(without(os.Environ()), variable+"=started:0")        //nolint:forbidigo // it is handed on as it is
	err = syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), argv, env) //nolint:gosec // our own program
	return fmt.Errorf("execute the program that enters a user namespace: %w", err)
}

func without(env []string) []string {
	return slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, variable+"=") })
}

// Arrival is how entering went.
type Arrival struct {
	// Tried is set in a process that Enter has restarted.
	Tried bool
	// Err is why there is no user namespace, nil when there is one.
	Err error
	// Warning is why there is one id and not the range that there could be.
	Warning string
}

// Arrive says how the process came here, and takes the word of it out of the
// environment. Once in a process it tells something.
func Arrive() Arrival {
	word, ok := os.LookupEnv(variable) //nolint:forbidigo // word from the program before this one
	if !ok {
		return Arrival{}
	}
	_ = os.Unsetenv(variable)
	return arrival(word)
}

func arrival(word string) Arrival {
	step, number, _ := strings.Cut(word, ":")
	n, _ := strconv.Atoi(number)
	a := Arrival{Tried: true}
	switch step {
	case "":
	case "newuidmap", "newgidmap":
		a.Warning = fmt.Sprintf("%s refused the range of ids (exit code %d)", step, n)
	case "unshare":
		a.Err = fmt.Errorf("make a user namespace: %w", syscall.Errno(n))
	default:
		a.Err = fmt.Errorf("map the user into a user namespace: %w", syscall.Errno(n))
	}
	return a
}

// State is where the process is.
type State struct {
	// Initial is set in the machine's own user namespace.
	Initial bool
	// IDs is how many user ids there are, and as many group ids, from 0 on.
	IDs uint32
	// Groups is set when supplementary groups can be set.
	Groups bool
}

// Here says in which user namespace the process is.
func Here() (State, error) {
	users, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return State{}, fmt.Errorf("read the user namespace: %w", err)
	}
	groups, err := os.ReadFile("/proc/self/gid_map")
	if err != nil {
		return State{}, fmt.Errorf("read the user namespace: %w", err)
	}
	s := State{IDs: min(contiguous(string(users)), contiguous(string(groups)))}
	s.Initial = s.IDs == 1<<32-1
	setgroups, err := os.ReadFile("/proc/self/setgroups")
	s.Groups = err == nil && strings.TrimSpace(string(setgroups)) == "allow"
	return s, nil
}

// contiguous counts the ids from 0 on without a gap of a map
// (user_namespaces(7)). Its lines may come in any order.
func contiguous(text string) uint32 {
	ends := map[uint64]uint64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		first, err1 := strconv.ParseUint(f[0], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 == nil && err2 == nil && count > 0 {
			ends[first] = first + count
		}
	}
	n := uint64(0)
	for end, ok := ends[n]; ok; end, ok = ends[n] {
		n = end
	}
	return uint32(min(n, 1<<32-1))
}
