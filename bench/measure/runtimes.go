package measure

import (
	"bytes"
	"context"
	_ "embed" // the programs
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/bench/load"
	"github.com/dayfly-io/dayfly/bench/peer"
	"github.com/dayfly-io/dayfly/bench/rig"
)

// RuntimesOptions are how much of it is measured.
type RuntimesOptions struct {
	// Calls is how many cold starts of each are measured, Rounds into how many
	// rounds they are divided.
	Calls, Rounds int
}

// Languages are those whose functions are measured, by the name of their base
// image.
var Languages = []string{"node", "python"}

//go:embed hello.js
var nodeHello string

//go:embed hello.py
var pythonHello string

// language is a base image of Debian's packages, with a web server for it to
// run.
type language struct {
	name    string
	command []string
	root    string // its files, unpacked
	variant *coldVariant
	plain   *peer.Plain
}

// Runtimes measures cold starts of functions in interpreted languages, against
// the same interpreter with the same files as a plain process.
func Runtimes(ctx context.Context, b *Bench, o RuntimesOptions) error {
	commands := map[string][]string{
		"node":   {"/usr/bin/node", "-e", nodeHello},
		"python": {"/usr/bin/python3", "-c", pythonHello},
	}
	s, err := b.server(ctx, "server", nil)
	if err != nil {
		return err
	}
	defer b.stop(s)
	var all []*language
	for _, name := range Languages {
		l := &language{name: name, command: commands[name]}
		if err := l.prepare(ctx, b, s, o.Calls+coldWarm); err != nil {
			return err
		}
		defer func() { _ = l.variant.conn.Close() }() // nothing is under way
		all = append(all, l)
	}
	for round := -1; round < o.Rounds; round++ {
		calls := coldWarm
		if round >= 0 {
			b.Log.Info("runtimes", "round", round+1, "of", o.Rounds)
			calls = share(o.Calls, round, o.Rounds)
		}
		for range calls {
			for _, l := range all {
				if err := l.both(ctx, b, round); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// prepare loads the base image and unpacks the same for the plain process.
func (l *language) prepare(ctx context.Context, b *Bench, s *rig.Server, functions int) error {
	cmd := exec.CommandContext(ctx, "../test/base-images.sh", l.name)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("make the base image %s: %w", l.name, err)
	}
	made := strings.TrimSpace(string(out))
	tar, err := os.ReadFile(filepath.Join(made, "image.tar"))
	if err != nil {
		return fmt.Errorf("read the base image %s: %w", l.name, err)
	}
	if _, err := s.LoadImages(ctx, bytes.NewReader(tar)); err != nil {
		return fmt.Errorf("load the base image %s: %w", l.name, err)
	}
	l.root = filepath.Join(b.Dir, l.name)
	if err := os.Mkdir(l.root, 0o755); err != nil {
		return fmt.Errorf("make a root for %s: %w", l.name, err)
	}
	if out, err := exec.CommandContext(ctx, "tar", "-xf", filepath.Join(made, "layer.tar"), "-C", l.root).CombinedOutput(); err != nil {
		return fmt.Errorf("unpack the base image %s: %w: %s", l.name, err, out)
	}
	if l.plain, err = peer.NewPlainIn(l.root, l.command...); err != nil {
		return err
	}
	l.variant = &coldVariant{name: l.name + ", function", server: s, network: l.name}
	for i := range functions {
		_, err := s.Deploy(ctx, l.variant.function(i), api.Spec{
			Image: l.name + ":debian", Command: l.command, Memory: 256 * api.MiB, CPU: float64(runtime.NumCPU()),
		})
		if err != nil {
			return err
		}
	}
	l.variant.conn, err = load.Dial(s.Address)
	return err
}

// both takes one start of each.
func (l *language) both(ctx context.Context, b *Bench, round int) error {
	values, err := l.variant.call(ctx)
	if err != nil {
		return err
	}
	if err := sleep(ctx, coldSettle); err != nil {
		return err
	}
	t, err := l.plain.Cycle(ctx)
	if err != nil || round < 0 {
		return err
	}
	if err := b.Out.Sample(round, l.variant.name, values); err != nil {
		return err
	}
	return b.Out.Sample(round, l.name+", plain process", map[string]float64{"first_byte_ms": ms(t.FirstByte), "start_ms": ms(t.Start)})
}
