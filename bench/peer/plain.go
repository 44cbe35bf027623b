package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/dayfly-io/dayfly/bench/load"
)

// Plain starts the program by fork and exec, in no container: the floor.
type Plain struct {
	program string
	args    []string
	root    string // that the process sees as its root, "" for ours
	port    int
}

// NewPlain takes the path of the program. Those that are used at the same
// time must be several.
func NewPlain(program string) (*Plain, error) {
	p, err := load.FreePort()
	if err != nil {
		return nil, err
	}
	return &Plain{program: program, port: p}, nil
}

// NewPlainIn takes a command whose files are all in a directory, which it sees
// as the root.
func NewPlainIn(root string, command ...string) (*Plain, error) {
	p, err := NewPlain(command[0])
	if err != nil {
		return nil, err
	}
	p.args, p.root = command[1:], root
	return p, nil
}

// command makes the process, which is not started yet.
func (p *Plain) command() *exec.Cmd {
	cmd := exec.Command(p.program, p.args...)
	cmd.Env = []string{"PORT=" + strconv.Itoa(p.port)}
	if p.root != "" {
		cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: p.root}
	}
	return cmd
}

// Name names the engine.
func (*Plain) Name() string { return "plain fork+exec" }

// Close does nothing.
func (*Plain) Close() error { return nil }

// Cycle starts the program, asks it and kills it.
func (p *Plain) Cycle(ctx context.Context) (t Timing, err error) {
	began := time.Now()
	cmd := p.command()
	if err := cmd.Start(); err != nil {
		return t, fmt.Errorf("start the program: %w", err)
	}
	t.Start = time.Since(began)
	err = ask(ctx, dialTCP("127.0.0.1:"+strconv.Itoa(p.port)))
	t.FirstByte = time.Since(began)
	ending := time.Now()
	kerr := cmd.Process.Kill()
	_ = cmd.Wait() // it was killed, and says so
	t.Teardown = time.Since(ending)
	return t, errors.Join(err, kerr)
}

// Target is a plain program that stays.
type Target struct {
	load.Target
	cmd *exec.Cmd
}

// Stay starts the program and leaves it running until Close.
func (p *Plain) Stay(ctx context.Context) (*Target, error) {
	return stay(ctx, "127.0.0.1:"+strconv.Itoa(p.port), exec.Command(p.program), []string{"PORT=" + strconv.Itoa(p.port)})
}

// stay starts a command that listens on an address, and waits until it does.
func stay(ctx context.Context, address string, cmd *exec.Cmd, env []string) (*Target, error) {
	t := &Target{Target: load.Target{Address: address, Path: "/"}, cmd: cmd}
	cmd.Env, cmd.Stderr = env, os.Stderr
	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the program: %w", err)
	}
	if err := ask(ctx, dialTCP(address)); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// PID gives the process of the program.
func (t *Target) PID() int { return t.cmd.Process.Pid }

// Close ends the program.
func (t *Target) Close() error {
	err := t.cmd.Process.Signal(syscall.SIGKILL)
	_ = t.cmd.Wait() // it was killed, and says so
	if err != nil {
		return fmt.Errorf("end the program: %w", err)
	}
	return nil
}
