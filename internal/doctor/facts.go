package doctor

import (
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sandbox/userns"
)

// Facts are what was found. An error text that is "" means that it works.
type Facts struct {
	Kernel [2]int // version, such as 6, 1
	Arch   string

	User User
	// Tried are things of the kernel that were tried, by what they are.
	Tried map[Trial]string

	Cgroup Cgroup
	// Forwarding is net.ipv4.ip_forward.
	Forwarding bool
	// Uplink is what keeps a plain user's server from a way out.
	Uplink string

	Data Directory
	// Listen is the address of the server, and InUse why it cannot be had.
	Listen, InUse string
	// Files is how many files a process may have open at the most.
	Files uint64
	// Now is the machine's time, and Synced whether something keeps it right.
	Now    time.Time
	Synced bool

	// Docker is the version of the engine's API, Docker's absence why there is
	// none.
	Docker, NoDocker string
}

// User is who runs the doctor, as whom a server would run.
type User struct {
	Root   bool // of the machine
	IDs    uint32
	Limits userns.Limits
	// Refused is why there is no user namespace for a plain user.
	Refused string
	// Lack is why there is one id only, with what to do.
	Lack, Remedy string
	// Capabilities are those of root that are missing.
	Missing string
}

// Trial is something that is tried.
type Trial string

// The trials.
const (
	TrialOverlay Trial = "overlay"
	TrialBridge  Trial = "bridge"
	TrialVeth    Trial = "veth"
	TrialNft     Trial = "nftables"
	TrialSeccomp Trial = "seccomp"
)

// Cgroup is what there is of control groups.
type Cgroup struct {
	Unified     bool     // version 2 is mounted
	Controllers []string // that enforce limits: memory, cpu, pids
	Legacy      bool     // some are in version 1
	Swap        bool     // swap is counted
	// Lack is why there is not everything, with what to do.
	Lack, Remedy string
}

// Directory is the data directory, or the nearest that is there.
type Directory struct {
	Path   string
	Type   string // of the file system
	Free   core.Bytes
	Denied string // why nothing can be written there
}
