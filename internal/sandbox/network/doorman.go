package network

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// lookEvery is how long sandboxes may be cut off when another program starts to drop what it does not know. Looking
// is one dump of the chains of family ip and one of the rules of two chains.
const lookEvery = 2 * time.Second

// The base chains of iptables in its nftables form. A container engine or a firewall sets their policy to drop, and
// an accept in our own table does not outvote that.
const (
	iptablesTable   = "filter"
	iptablesInput   = "INPUT"
	iptablesForward = "FORWARD"
)

// doorman keeps our accept rules at the head of those chains, which other programs make, flush and make again as they
// like.
type doorman struct {
	space namespace
	name  string
	log   *slog.Logger
	stop  chan struct{}
	done  chan struct{}
}

// newDoorman puts the rules in once and then looks after them until close.
func newDoorman(ns namespace, name string, log *slog.Logger) (*doorman, error) {
	d := &doorman{space: ns, name: name, log: log, stop: make(chan struct{}), done: make(chan struct{})}
	if _, err := d.look(); err != nil {
		return nil, err
	}
	if err := d.warn(); err != nil {
		return nil, err
	}
	go d.run()
	return d, nil
}

func (d *doorman) close() {
	close(d.stop)
	<-d.done
}

func (d *doorman) run() {
	defer close(d.done)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var last string
	for {
		select {
		case <-d.stop:
			return
		case <-tick.C:
		}
		added, err := d.look()
		switch {
		case err != nil && err.Error() != last:
			last = err.Error()
			d.log.Warn("sandboxes may be cut off: the firewall's rules cannot be looked at", slog.Any("error", err))
		case err == nil:
			last = ""
		}
		if added > 0 {
			d.log.Info("let sandboxes through the host's iptables filter", slog.Int("rules", added))
		}
	}
}

// look adds the rules that are missing and returns how many.
func (d *doorman) look() (int, error) {
	missing, err := d.missing()
	if err != nil || len(missing) == 0 {
		return 0, err
	}
	conn, err := d.space.nftables()
	if err != nil {
		return 0, err
	}
	defer hangUp(conn)
	for _, r := range missing {
		conn.InsertRule(r)
	}
	if err := conn.Flush(); err != nil {
		// ENOENT: the chain went between the two calls; the next look sees.
		if errors.Is(err, unix.ENOENT) {
			return 0, nil
		}
		return 0, fmt.Errorf("add accept rules to nftables table ip %s: %w", iptablesTable, err)
	}
	return len(missing), nil
}

func (d *doorman) missing() ([]*nftables.Rule, error) {
	chains, rules, err := iptablesRules(d.space)
	if err != nil {
		return nil, err
	}
	var missing []*nftables.Rule
	for i, c := range chains {
		for _, w := range accepts(c, d.name) {
			if !slices.ContainsFunc(rules[i], func(r *nftables.Rule) bool { return string(r.UserData) == string(w.UserData) }) {
				missing = append(missing, w)
			}
		}
	}
	return missing, nil
}

// warn tells of filters that will stop sandboxes and that no rule of ours can open.
func (d *doorman) warn() error {
	conn, err := d.space.nftables()
	if err != nil {
		return err
	}
	defer hangUp(conn)
	chains, err := conn.ListChains()
	if err != nil {
		return fmt.Errorf("list nftables chains: %w", err)
	}
	for _, c := range chains {
		inet := c.Table.Family == nftables.TableFamilyINet || c.Table.Family == nftables.TableFamilyIPv4
		passes := c.Hooknum != nil &&
			(*c.Hooknum == *nftables.ChainHookForward || *c.Hooknum == *nftables.ChainHookInput)
		drops := c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
		if inet && passes && drops && !isIptables(c) {
			d.log.Warn("a firewall of the host drops what it does not know, sandboxes too: "+
				"let traffic from the bridge, and to it, through this chain",
				slog.String("bridge", bridgeNames(d.name)+"*"), slog.String("table", c.Table.Name), slog.String("chain", c.Name))
		}
	}
	var tables []byte
	err = d.space.do(func() (err error) {
		tables, err = os.ReadFile("/proc/thread-self/net/ip_tables_names")
		return err
	})
	if err == nil && slices.Contains(strings.Fields(string(tables)), iptablesTable) {
		d.log.Warn("the host's firewall uses the old form of iptables, which cannot be opened for sandboxes: "+
			"if it drops forwarded traffic, add rules that accept the bridge or change to iptables-nft",
			slog.String("bridge", bridgeNames(d.name)+"*"))
	}
	return nil
}

func isIptables(c *nftables.Chain) bool {
	return c.Table.Family == nftables.TableFamilyIPv4 && c.Table.Name == iptablesTable && c.Hooknum != nil &&
		(c.Name == iptablesInput || c.Name == iptablesForward)
}

// iptablesRules lists the chains we have rules in, as far as they exist, and the rules of each.
func iptablesRules(ns namespace) ([]*nftables.Chain, [][]*nftables.Rule, error) {
	conn, err := ns.nftables()
	if err != nil {
		return nil, nil, err
	}
	defer hangUp(conn)
	all, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return nil, nil, fmt.Errorf("list nftables chains of family ip: %w", err)
	}
	var chains []*nftables.Chain
	var rules [][]*nftables.Rule
	for _, c := range all {
		if !isIptables(c) {
			continue
		}
		in, err := conn.GetRules(c.Table, c)
		if err != nil {
			return nil, nil, fmt.Errorf("list the rules of nftables chain ip %s %s: %w", iptablesTable, c.Name, err)
		}
		chains, rules = append(chains, c), append(rules, in)
	}
	return chains, rules, nil
}

// accepts are our rules in a chain of iptables. They look as iptables writes its own, since it refuses to work on a
// table with anything else in it. That they ask for nothing but the bridges is no hole: our table comes before and
// has dropped all that may not pass, for good.
func accepts(c *nftables.Chain, name string) []*nftables.Rule {
	keys := []expr.MetaKey{expr.MetaKeyIIFNAME}
	if c.Name == iptablesForward {
		keys = append(keys, expr.MetaKeyOIFNAME)
	}
	var rules []*nftables.Rule
	for _, key := range keys {
		direction := " in"
		if key == expr.MetaKeyOIFNAME {
			direction = " out"
		}
		rules = append(rules, &nftables.Rule{
			Table: c.Table,
			Chain: c,
			Exprs: []expr.Any{
				&expr.Meta{Key: key, Register: register},
				&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte(bridgeNames(name))},
				&expr.Counter{},
				&expr.Verdict{Kind: expr.VerdictAccept},
			},
			UserData: userdata.AppendString(nil, userdata.TypeComment, mark(name)+direction),
		})
	}
	return rules
}

// mark begins the comment of each of our rules in other tables.
func mark(name string) string { return tablePrefix + name }

// removeAccepts removes our rules from other tables. Another program may remove one of them, or all, at the same
// time, and then the kernel refuses the whole batch; so it looks again.
func removeAccepts(ns namespace, name string) error {
	const tries = 5
	var err error
	for range tries {
		if err = removeAcceptsOnce(ns, name); !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return err
}

func removeAcceptsOnce(ns namespace, name string) error {
	_, rules, err := iptablesRules(ns)
	if err != nil {
		return err
	}
	conn, err := ns.nftables()
	if err != nil {
		return err
	}
	defer hangUp(conn)
	for _, r := range slices.Concat(rules...) {
		comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		if owner, _, _ := strings.Cut(comment, " "); owner != mark(name) {
			continue
		}
		if err := conn.DelRule(r); err != nil {
			return fmt.Errorf("delete the rule %q of nftables table ip %s: %w", comment, iptablesTable, err)
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("delete our rules of nftables table ip %s: %w", iptablesTable, err)
	}
	return nil
}
