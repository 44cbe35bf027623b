package sandbox

import (
	"fmt"
	"os"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image"
	"github.com/dayfly-io/dayfly/internal/sandbox/userns"
)

// ids says which user and group ids sandboxes have.
type ids struct {
	// userns is set when sandboxes have user namespaces.
	userns bool
	// mapped is set when layers are mounted with their ids mapped, so that
	// each sandbox has a range of ids of its own. Only root of the machine can
	// do that. Otherwise all have the same, first to first+count of those that
	// the server has, and layers are unpacked with those as owners.
	mapped       bool
	first, count int
	// groups is set when supplementary groups can be given up.
	groups bool
	// plain is set when the server is root of a user namespace only.
	plain bool
}

// rootIDs are those of a server that is root of the machine, as long as
// nothing is found that speaks against it.
var rootIDs = ids{userns: true, mapped: true, count: uidsOfBox, groups: true}

// idsIn says what there is in a user namespace. Its id 0 is the user who runs the
// server: where there are others, sandboxes do without that one.
func idsIn(s userns.State) ids {
	switch {
	case s.Initial:
		return rootIDs
	case s.IDs > 1:
		return ids{userns: true, first: 1, count: int(min(s.IDs-1, uidsOfBox)), groups: s.Groups, plain: true}
	}
	return ids{userns: true, count: 1, groups: s.Groups, plain: true}
}

// Owners says to whom the files of layers must belong for the sandboxes of a
// server that runs where this process does.
func Owners() (image.Owners, error) {
	s, err := userns.Here()
	if err != nil {
		return image.Owners{}, fmt.Errorf("find out what user ids there are: %w", err)
	}
	i := idsIn(s)
	if i.mapped {
		return image.Owners{}, nil
	}
	return image.Owners{First: uint32(i.first), Count: uint32(i.count)}, nil
}

// of gives the first id, as the server sees it, of the sandbox of a slot.
func (i ids) of(slot int) int {
	if i.mapped {
		return firstUID + slot*uidsOfBox
	}
	return i.first
}

// Enter makes a plain user's process root of a user namespace, by starting its
// program again with the same arguments; it must come before everything that
// the program would do twice. For root it does nothing. In a process that was
// started so it gives a notice when there is one user id and not the range that
// the machine could give, and an error when there is no user namespace.
func Enter() (notice string, err error) {
	a := userns.Arrive()
	if a.Err != nil {
		why, remedy := userns.FindLimits().Obstacle()
		if why == "" {
			why, remedy = "the kernel or a container refuses it", "start the server as root, or outside of the container"
		}
		return "", core.Unavailable(core.ReasonStartFailed, a.Err, "the sandbox driver needs root or a user namespace, and %s: %s", why, remedy)
	}
	if a.Tried || os.Geteuid() == 0 {
		return a.Warning, nil
	}
	return "", userns.Enter(os.Args)
}
