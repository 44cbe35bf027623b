package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image/layer"
)

// Owners says to whom the files of unpacked layers belong.
type Owners = layer.Owners

// ownersFile says for whom the layers of a store were unpacked; without it they
// belong to whom they name, as root unpacks them.
const ownersFile = "owners"

// checkOwners refuses layers that were unpacked for a server with other ids:
// its sandboxes would find everything to be somebody else's.
func (s *Store) checkOwners() error {
	want, err := describeOwners(s.opts.Owners)
	if err != nil {
		return err
	}
	found, err := os.ReadFile(s.path(ownersFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("opening the image store: %w", err)
	}
	if string(found) == want {
		return nil
	}
	layers, err := os.ReadDir(s.path(layersDir))
	if err != nil {
		return fmt.Errorf("opening the image store: %w", err)
	}
	if len(layers) > 0 {
		return core.Conflict("the images in %s were unpacked by a server with other user ids (root, a plain user, or one with another range in /etc/subuid): "+
			"start the server as it was started before, or give it another data directory", s.dir)
	}
	if want == "" {
		err = os.Remove(s.path(ownersFile))
	} else {
		err = os.WriteFile(s.path(ownersFile), []byte(want), 0o600)
	}
	if err != nil {
		return fmt.Errorf("opening the image store: %w", err)
	}
	return nil
}

// describeOwners says what ids on disk are meant: those of this user namespace
// as the machine knows them.
func describeOwners(o Owners) (string, error) {
	if o == (Owners{}) {
		return "", nil
	}
	var text strings.Builder
	fmt.Fprintf(&text, "first %d count %d\n", o.First, o.Count)
	for _, name := range []string{"uid_map", "gid_map"} {
		b, err := os.ReadFile("/proc/self/" + name)
		if err != nil {
			return "", fmt.Errorf("opening the image store: %w", err)
		}
		for line := range strings.Lines(string(b)) {
			text.WriteString(name + " " + strings.Join(strings.Fields(line), " ") + "\n")
		}
	}
	return text.String(), nil
}
