package userns

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// Where a user's further ids stand (subuid(5), subgid(5)).
const (
	subUIDs = "/etc/subuid"
	subGIDs = "/etc/subgid"
)

// maxRanges bounds how many ranges are mapped. The kernel takes 340 lines; a
// user has one, rarely two.
const maxRanges = 16

// Range is a range of ids that a user may map.
type Range struct {
	First uint32
	Count uint32
}

// parseRanges reads what a subuid(5) file grants a user, by name or number.
// Lines that are none are passed over, as newuidmap does.
func parseRanges(r io.Reader, name, id string) ([]Range, error) {
	var out []Range
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(f) != 3 || (f[0] != name || name == "") && f[0] != id {
			continue
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 != nil || err2 != nil || count == 0 || first+count > 1<<32-1 {
			continue
		}
		if len(out) < maxRanges {
			out = append(out, Range{uint32(first), uint32(count)})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read ranges of ids: %w", err)
	}
	return out, nil
}

// rangesOf gives what a file grants the user of the process; nothing when the
// file is not there, or not to be read.
func rangesOf(path string) ([]Range, error) {
	id := strconv.Itoa(outer("uid_map", os.Getuid()))
	name := ""
	if u, err := user.LookupId(id); err == nil {
		name = u.Username
	}
	f, err := os.Open(path)
	if os.IsNotExist(err) || os.IsPermission(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ranges of ids: %w", err)
	}
	defer func() { _ = f.Close() }()
	return parseRanges(f, name, id)
}

// outer gives what an id is outside of the user namespace of the process, as
// its map says; the id itself where that says nothing.
func outer(name string, id int) int {
	text, err := os.ReadFile("/proc/self/" + name)
	if err != nil {
		return id
	}
	for line := range strings.Lines(string(text)) {
		var inside, outside, count int
		if n, _ := fmt.Sscan(line, &inside, &outside, &count); n == 3 && id >= inside && id-inside < count {
			return outside + id - inside
		}
	}
	return id
}

// arguments are those of newuidmap(1) and newgidmap(1): id 0 is the user, what
// follows are the ranges.
func arguments(program string, pid, id int, ranges []Range) []string {
	args := []string{program, strconv.Itoa(pid), "0", strconv.Itoa(id), "1"}
	next := uint64(1)
	for _, r := range ranges {
		args = append(args, strconv.FormatUint(next, 10), strconv.FormatUint(uint64(r.First), 10), strconv.FormatUint(uint64(r.Count), 10))
		next += uint64(r.Count)
	}
	return args
}
