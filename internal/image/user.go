package image

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image/layer"
)

// maxPasswd bounds etc/passwd and etc/group of an image.
const maxPasswd = 1 << 20

// maxUser is the largest id that can be named; as in Docker.
const maxUser = 1<<31 - 1

// User is whom the process of an image runs as.
type User struct {
	UID, GID uint32
	Groups   []uint32 // the supplementary ones
	Home     string
}

type userKey struct{ digest, spec string }

// User finds out whom user[:group] means in an image; each is a name or a
// number, "" means root. Rules as in Docker: a number needs no entry in
// etc/passwd, one that has an entry gets its group, home and supplementary
// groups; with a group named there are no supplementary ones. A name that the
// image does not know is core.KindInvalid with the code image_unsupported.
func (s *Store) User(r Rootfs, spec string) (User, error) {
	key := userKey{r.Digest, spec}
	s.mu.RLock()
	u, ok := s.users[key]
	s.mu.RUnlock()
	if ok {
		return u, nil
	}
	u, err := findUser(r.Layers, spec)
	if err != nil {
		return User{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.images[r.Digest]; ok {
		s.users[key] = u
	}
	return u, nil
}

func findUser(layers []string, spec string) (User, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	name = cmp.Or(name, "0")
	passwd, err := table(layers, "etc/passwd")
	if err != nil {
		return User{}, err
	}
	u := User{Home: "/"}
	uid, isNumber := parseID(name)
	entry := find(passwd, name, 7, isNumber)
	switch {
	case entry != nil:
		var ok1, ok2 bool
		u.UID, ok1 = parseID(entry[2])
		u.GID, ok2 = parseID(entry[3])
		if !ok1 || !ok2 {
			return User{}, unknownUser("the user %q has ids in the image's etc/passwd that are no numbers up to %d", name, maxUser)
		}
		if path.IsAbs(entry[5]) {
			u.Home = entry[5]
		}
		name = entry[0]
	case isNumber:
		u.UID = uid
	default:
		return User{}, unknownUser("the user %q is not in the image's etc/passwd: use its number, or add it", name)
	}
	groups, err := table(layers, "etc/group")
	if err != nil {
		return User{}, err
	}
	if !hasGroup || group == "" {
		u.Groups = memberships(groups, name, entry != nil)
		return u, nil
	}
	gid, isNumber := parseID(group)
	if entry := find(groups, group, 4, isNumber); entry != nil {
		if gid, isNumber = parseID(entry[2]); !isNumber {
			return User{}, unknownUser("the group %q has an id in the image's etc/group that is no number up to %d", group, maxUser)
		}
	} else if !isNumber {
		return User{}, unknownUser("the group %q is not in the image's etc/group: use its number, or add it", group)
	}
	u.GID = gid
	return u, nil
}

func unknownUser(format string, args ...any) error {
	return core.Errorf(core.KindInvalid, core.ReasonImageUnsupported, format, args...)
}

// table reads a file of lines with fields between colons; none is an empty
// one.
func table(layers []string, name string) ([][]string, error) {
	data, err := layer.ReadFile(layers, name, maxPasswd)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &core.Error{
			Kind: core.KindInvalid, Code: core.ReasonImageUnsupported, Err: err,
			Message: "the image's " + name + " cannot be read",
		}
	}
	var rows [][]string
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxPasswd+1)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && line[0] != '#' {
			rows = append(rows, strings.Split(line, ":"))
		}
	}
	return rows, nil
}

// find gives the first row with that name or, for a number, with that id.
// Rows with fewer than so many fields are passed over.
func find(rows [][]string, name string, fields int, number bool) []string {
	for _, r := range rows {
		if len(r) >= fields && (r[0] == name || number && r[2] == name) {
			return r
		}
	}
	return nil
}

// memberships are the groups that list a user of etc/passwd.
func memberships(groups [][]string, name string, known bool) []uint32 {
	var out []uint32
	for _, g := range groups {
		if !known || len(g) < 4 || !slices.Contains(strings.Split(g[3], ","), name) {
			continue
		}
		if id, ok := parseID(g[2]); ok && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n <= maxUser
}
