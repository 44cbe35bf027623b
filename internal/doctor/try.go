package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dayfly-io/dayfly/internal/netns"
)

// tryAll tries what needs a namespace, each on a thread that takes what it made
// with it.
func (f *Facts) tryAll() {
	f.Tried[TrialOverlay] = said(away(unix.CLONE_NEWNS, tryOverlay))
	f.Tried[TrialBridge] = said(away(unix.CLONE_NEWNET, func() error {
		return tryLink(&netlink.Bridge{LinkAttrs: named("df-doctor")})
	}))
	f.Tried[TrialVeth] = said(away(unix.CLONE_NEWNET, func() error {
		return tryLink(&netlink.Veth{LinkAttrs: named("df-doctor"), PeerName: "df-peer"})
	}))
	f.Tried[TrialNft] = said(away(unix.CLONE_NEWNET, tryNft))
}

// away calls fn on a thread in namespaces of its own.
func away(namespaces int, fn func() error) error {
	done := make(chan error)
	go netns.OnThread(func() {
		err := unix.Unshare(namespaces)
		if err == nil {
			err = fn()
		}
		done <- err
	})
	return <-done
}

func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func tryLink(l netlink.Link) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a route netlink socket: %w", err)
	}
	defer h.Close()
	return h.LinkAdd(l) //nolint:wrapcheck // the finding says of what
}

// tryNft makes a table that translates addresses.
func tryNft() error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("open an nftables netlink socket: %w", err)
	}
	defer func() { _ = conn.CloseLasting() }()
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "dayfly_doctor"})
	conn.AddChain(&nftables.Chain{
		Table: table, Name: "leave", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	return conn.Flush() //nolint:wrapcheck // the finding says of what
}

// tryOverlay mounts an overlay as sandboxes do, over a tmpfs, in the mount
// namespace that the thread has to itself.
func tryOverlay() error {
	dir, err := os.MkdirTemp("", "dayfly-doctor-")
	if err != nil {
		return fmt.Errorf("make a directory to mount at: %w", err)
	}
	defer func() { _ = os.Remove(dir) }()
	if err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("dayfly", dir, "tmpfs", 0, "size=1m"),
	); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	for _, name := range []string{"lower", "upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return fmt.Errorf("make a directory to mount at: %w", err)
		}
	}
	options := "lowerdir=" + dir + "/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work,userxattr"
	return unix.Mount("dayfly", filepath.Join(dir, "root"), "overlay", 0, options)
}

// trySeccomp asks for a filter without giving one: a kernel that has them
// finds fault with the address (prctl(2), PR_SET_SECCOMP).
func trySeccomp() error {
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0)
	if errors.Is(err, unix.EFAULT) {
		return nil
	}
	return err
}
