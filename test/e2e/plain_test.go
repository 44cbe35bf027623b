package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A user of the tests' own, of whom the machine knows nothing.
const plainID = 54321

// becomePlain runs a command as the plain user, on a machine that has files of
// the tests' in the place of its own. It stays one process.
const becomePlain = `set -e
for f in passwd subuid subgid; do mount --bind "$1/$f" "/etc/$f"; done
mount --bind "$1/tun" /dev/net/tun
cd "$1/home"
shift
exec setpriv --reuid=54321 --regid=54321 --clear-groups "$@"`

// plain is the place of a plain user's server.
type plain struct{ dir string }

// newPlain makes one, with a range of ids and a /dev/net/tun to open, or
// without either.
func newPlain(t *testing.T, well bool) plain {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv(worldVariable), "plain-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := plain{dir}
	ranges, mode := "", uint32(unix.S_IFCHR|0o600)
	if well {
		ranges, mode = "plain:1610612736:65536\n", unix.S_IFCHR|0o666
	}
	for name, text := range map[string]string{
		"passwd": fmt.Sprintf("root:x:0:0:root:/root:/bin/sh\nplain:x:%d:%d::/:/bin/sh\n", plainID, plainID), "subuid": ranges, "subgid": ranges,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Chmod(dir, 0o755),
		unix.Mknod(filepath.Join(dir, "tun"), mode, int(unix.Mkdev(10, 200))), os.Chmod(filepath.Join(dir, "tun"), os.FileMode(mode&0o777)),
		os.Mkdir(filepath.Join(dir, "home"), 0o755), os.Chown(filepath.Join(dir, "home"), plainID, plainID),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p plain) options() options {
	home := filepath.Join(p.dir, "home")
	return options{
		data: filepath.Join(home, "data"), env: []string{"HOME=" + home, "TMPDIR=" + home},
		prefix: []string{"unshare", "--mount", "sh", "-c", becomePlain, "sh", p.dir},
	}
}

// addWayOut gives the machine of the tests a default route, which leads nowhere.
func addWayOut(t *testing.T) {
	t.Helper()
	link := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "way1"}
	link.Name = "way0"
	address, err := netlink.ParseAddr("192.0.2.1/24")
	if err != nil {
		t.Fatal(err)
	}
	for _, do := range []func() error{
		func() error { return netlink.LinkAdd(link) },
		func() error { return netlink.AddrAdd(link, address) },
		func() error { return netlink.LinkSetUp(link) },
		func() error {
			peer, err := netlink.LinkByName("way1")
			if err != nil {
				return err
			}
			return netlink.LinkSetUp(peer)
		},
		func() error {
			return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Index, Gw: net.ParseIP("192.0.2.2")})
		},
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(link); err != nil {
			t.Error(err)
		}
	})
}

func TestPlainUser(t *testing.T) {
	addWayOut(t)
	for name, well := range map[string]bool{"with a range of ids and pasta": true, "with one id and no way out": false} {
		t.Run(name, func(t *testing.T) { asPlainUser(t, well) })
	}
}

// The doctor says beforehand what the server says later, and leaves nothing.
func TestDoctor(t *testing.T) {
	before := alone(t)
	addWayOut(t)
	for name, c := range map[string]struct {
		prefix []string
		words  []string
	}{
		"root":       {nil, []string{"user              ok    root", "limits            ok ", "the driver sandbox"}},
		"plain":      {newPlain(t, true).options().prefix, []string{"a plain user", "65536, which all", "by pasta", "the driver sandbox"}},
		"plain poor": {newPlain(t, false).options().prefix, []string{"user ids          less", "way out           less", "/dev/net/tun", "the driver sandbox"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := append(append([]string{}, c.prefix...), built("dayfly"), "doctor", "--listen", "127.0.0.1:0")
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Env = cleanEnv()
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("it ends with %v", err)
			}
			wantWords(t, string(out), c.words...)
		})
	}
	if more := before.more(look(t, nil)); len(more) > 0 {
		for _, m := range more {
			if !strings.HasPrefix(m, "link: way") {
				t.Errorf("it left %s", m)
			}
		}
	}
}

// asPlainUser deploys, calls, kills the server, starts it again and stops it.
func asPlainUser(t *testing.T, well bool) {
	t.Helper()
	before := alone(t)
	p := newPlain(t, well)
	s := start(t, p.options())
	status := readFile(t, "/proc/"+strconv.Itoa(s.cmd.Process.Pid)+"/status")
	wantWords(t, status, fmt.Sprintf("Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d", plainID))
	loadMisbehave(t, s)
	network := "egress"
	if !well {
		network = "none"
		// What it cannot do it says at the start, when asked, and at the deploy.
		wantWords(t, s.log.String(), "missing=network", "chmod 666 /dev/net/tun", `missing="user ids"`, "/etc/subuid", "missing=limits")
		s.fails(t, 1, []string{"egress", "/dev/net/tun"}, "function", "create", "out", "--app", "plain", "--image", "misbehave:1", "--network", "egress")
	}
	told := s.get(t, "/v1/server").want(t, 200).body
	if strings.Contains(told, "network_egress") != well || strings.Contains(told, `"users"`) != well || strings.Contains(told, "limit_memory") {
		t.Errorf("it says of itself: %s", told)
	}
	s.create(t, "plain", "web", "web", "--network", network)
	s.create(t, "plain", "job", "cat", "--contract", "job", "--network", network)
	s.kit(t, "plain", "kit", "--network", network)
	calls := func() {
		t.Helper()
		s.get(t, "/f/plain/web/hello").want(t, 200)
		if a := s.call(t, "POST", "/f/plain/job", "of a plain user").want(t, 200); a.body != "of a plain user" {
			t.Errorf("the job answers %q", a.body)
		}
		if a := s.order(t, "/f/plain/kit", order{"echoContent": "by socket"}).want(t, 200); decode[kitEcho](t, a.body).Echo != "by socket" {
			t.Errorf("the function of the contract fdk answers %q", a.body)
		}
	}
	calls()
	s.create(t, "plain", "stuck", "stuck", "--contract", "job", "--network", network)
	call := later(s.request(t.Context(), t, "GET", "/f/plain/stuck", nil))
	s.running(t, "plain", "stuck")
	if now := before.more(look(t, nil)); !strings.Contains(strings.Join(now, "\n"), "process: ") {
		t.Errorf("there is no process of a running server: %v", now)
	}
	s.kill()
	if a := within(t, "the call under way", patience, call); a.status == 200 && a.err == nil {
		t.Errorf("a call of a killed server was answered %+v", a)
	}
	before.nothingLeft(t, nil)

	s = start(t, p.options())
	calls()
	// The run may have begun too late to be written down.
	if runs := s.runs(t, "app=plain&function=stuck"); len(runs) > 1 || len(runs) == 1 && runs[0].Reason != "server_restarted" {
		t.Errorf("the runs that the dead server had are %+v", runs)
	}
	// A signal is the server's own, and its exit code too.
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := within(t, "the end of the server", stopLimit, s.done); err != nil {
		t.Errorf("it ended with %v: %s", err, s.log)
	}
	s.cmd = nil
	before.nothingLeft(t, nil)

	// Root finds other owners than it would have made, and says so.
	wantWords(t, refused(t, options{data: p.options().data}).log, "other user ids", "started before")
}
