package userns

import (
	"os"
	"strconv"
	"strings"
)

// Limits are the kernel's settings that may keep a plain user from making user
// namespaces, as they are read; "" where the kernel has no such setting.
type Limits struct {
	Clone    string // kernel.unprivileged_userns_clone, of Debian's kernels
	Max      string // user.max_user_namespaces
	AppArmor string // kernel.apparmor_restrict_unprivileged_userns, of Ubuntu's
}

// FindLimits reads them.
func FindLimits() Limits {
	return Limits{
		Clone:    setting("kernel/unprivileged_userns_clone"),
		Max:      setting("user/max_user_namespaces"),
		AppArmor: setting("kernel/apparmor_restrict_unprivileged_userns"),
	}
}

func setting(path string) string {
	b, err := os.ReadFile("/proc/sys/" + path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Obstacle says which setting keeps plain users from user namespaces, and
// what to do; "" when none does.
func (l Limits) Obstacle() (why, remedy string) {
	limit, err := strconv.Atoi(l.Max)
	switch {
	case l.Clone == "0":
		return "kernel.unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1"
	case err == nil && limit == 0:
		return "user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=15000"
	case l.AppArmor == "1":
		return "AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)",
			"allow it for dayfly with a profile (docs/operations.md has it), or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
	}
	return "", ""
}
