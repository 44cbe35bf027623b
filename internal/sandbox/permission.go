package sandbox

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/core"
)

// needed are the capabilities without which the driver cannot work, and what
// each is for.
var needed = []struct {
	number int
	name   string
	use    string
}{
	{unix.CAP_CHOWN, "CAP_CHOWN", "to unpack images"},
	{unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE", "to unpack images"},
	{unix.CAP_SETUID, "CAP_SETUID", "to map the user ids of sandboxes"},
	{unix.CAP_SETGID, "CAP_SETGID", "to map the group ids of sandboxes"},
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "to connect sandboxes to the network"},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "to make namespaces and mounts"},
}

// checkPermission says what the process lacks to run sandboxes.
func checkPermission() error {
	if os.Geteuid() != 0 {
		return core.Unavailable(core.ReasonStartFailed, nil, "the sandbox driver needs root or a user namespace: start the server as root, "+
			"or see what dayfly doctor says of user namespaces")
	}
	missing, err := missingCapabilities()
	if err != nil || len(missing) == 0 {
		return err
	}
	return core.Unavailable(core.ReasonStartFailed, nil,
		"the server is root, but without %s: start it with that capability, outside of a container that takes it away", strings.Join(missing, ", "))
}

// MissingCapabilities names those that root lacks for this driver, "" for none.
func MissingCapabilities() string {
	missing, _ := missingCapabilities()
	return strings.Join(missing, ", ")
}

func missingCapabilities() ([]string, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return nil, fmt.Errorf("ask for the capabilities of the server: %w", err)
	}
	return lacking(uint64(sets[1].Effective)<<32 | uint64(sets[0].Effective)), nil
}

// lacking says which of the needed capabilities are not in the set.
func lacking(effective uint64) []string {
	var missing []string
	for _, c := range needed {
		if effective&(1<<c.number) == 0 {
			missing = append(missing, c.name+" ("+c.use+")")
		}
	}
	return missing
}
