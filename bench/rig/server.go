package rig

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the driver by which the records are counted

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/bench/load"
	"github.com/dayfly-io/dayfly/client"
)

// App is the app of all functions that are measured.
const App = "bench"

// Server is a server under test: a process of its own.
type Server struct {
	*client.Client
	// Address is host:port.
	Address string
	data    string
	log     string
	cmd     *exec.Cmd
	stopped bool
}

// patience bounds the start and the stop of a server.
const patience = 60 * time.Second

// StartServer starts program server with a data directory of its own in dir,
// and waits until it is ready. name tells servers of one run apart.
func StartServer(ctx context.Context, program, dir, name string, args ...string) (*Server, error) {
	s := &Server{data: filepath.Join(dir, name), log: filepath.Join(dir, name+".log")}
	logFile, err := os.Create(s.log)
	if err != nil {
		return nil, fmt.Errorf("make the log of a server: %w", err)
	}
	defer func() { _ = logFile.Close() }() // the server has its own copy
	s.cmd = exec.Command(program, append([]string{"server", "--listen", "127.0.0.1:0", "--data", s.data}, args...)...)
	s.cmd.Stderr = logFile
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a server: %w", err)
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a server: %w", err)
	}
	ready := make(chan string, 1)
	go func() {
		// Ends with the line, or with the process that Stop ends.
		line, _ := bufio.NewReader(out).ReadString('\n')
		ready <- line
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var line string
	select {
	case line = <-ready:
	case <-timer.C:
	case <-ctx.Done():
	}
	_, at, ok := strings.Cut(strings.TrimSpace(line), "http://")
	if !ok {
		return nil, errors.Join(fmt.Errorf("start a server: it did not say that it is ready: %s", s.tail()), s.Stop())
	}
	s.Address = at
	if s.Client, err = client.New("http://"+at, "", client.Options{}); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// tail gives the end of the server's log.
func (s *Server) tail() string {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// Stop stops the server and waits for it. The second call does nothing.
func (s *Server) Stop() error {
	if s.stopped {
		return nil
	}
	s.stopped = true
	if s.Client != nil {
		s.Client.Close()
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop a server: %w", err)
	}
	killer := time.AfterFunc(patience, func() { _ = s.cmd.Process.Kill() }) // what Wait says tells of it
	defer killer.Stop()
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("stop a server: %w: %s", err, s.tail())
	}
	return nil
}

// PID gives the number of the server's process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Load loads the images of workloads.
func (s *Server) Load(ctx context.Context, workloads ...Workload) error {
	for _, w := range workloads {
		if _, err := s.LoadImages(ctx, bytes.NewReader(w.Tar)); err != nil {
			return fmt.Errorf("load the image %s: %w", w.Name, err)
		}
	}
	return nil
}

// Deploy makes a function, and gives what to call.
func (s *Server) Deploy(ctx context.Context, name string, spec api.Spec) (load.Target, error) {
	if _, err := s.PutFunction(ctx, App, name, api.NewVersion{Spec: spec}, client.PutOptions{}); err != nil {
		return load.Target{}, fmt.Errorf("deploy %s: %w", name, err)
	}
	return load.Target{Address: s.Address, Path: "/f/" + App + "/" + name}, nil
}

// AwaitNoInstances waits until every instance has ended, and gives how many
// there were at first.
func (s *Server) AwaitNoInstances(ctx context.Context) (int, error) {
	first := -1
	for began := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		list, err := s.Instances(ctx)
		if err != nil {
			return first, fmt.Errorf("list the instances: %w", err)
		}
		if first < 0 {
			first = len(list)
		}
		if len(list) == 0 {
			return first, nil
		}
		if time.Since(began) > patience {
			return first, fmt.Errorf("%d instances are still there after %s", len(list), patience)
		}
	}
}

// AwaitInstances waits until n instances are in a state.
func (s *Server) AwaitInstances(ctx context.Context, state string, n int) error {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		list, err := s.Instances(ctx)
		if err != nil {
			return fmt.Errorf("list the instances: %w", err)
		}
		found := 0
		for _, in := range list {
			if in.State == state {
				found++
			}
		}
		if found == n {
			return nil
		}
		if time.Since(began) > patience {
			return fmt.Errorf("%d instances are %s after %s, not %d", found, state, patience, n)
		}
	}
}

// Recorded counts the runs that are on disk: rows of the history and of runs
// that go on, and those that ended well by the counter that the store keeps.
// The server has been stopped.
func (s *Server) Recorded(ctx context.Context) (rows, succeeded int64, err error) {
	if !s.stopped {
		return 0, 0, errors.New("count the runs: the server goes on, so that not all are on disk")
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: filepath.Join(s.data, "dayfly.db")}).EscapedPath()+"?mode=ro")
	if err != nil {
		return 0, 0, fmt.Errorf("open the records: %w", err)
	}
	defer func() { _ = db.Close() }() // it was only read
	tables := []string{"live_runs"}
	names, err := db.QueryContext(ctx, "SELECT printf('runs_%04d', number) FROM run_periods WHERE dropping = 0")
	if err != nil {
		return 0, 0, fmt.Errorf("list the periods of runs: %w", err)
	}
	defer func() { _ = names.Close() }() // it was read to its end
	for names.Next() {
		var name string
		if err := names.Scan(&name); err != nil {
			return 0, 0, fmt.Errorf("list the periods of runs: %w", err)
		}
		tables = append(tables, name)
	}
	if err := names.Err(); err != nil {
		return 0, 0, fmt.Errorf("list the periods of runs: %w", err)
	}
	for _, table := range tables {
		var n int64
		if err := db.QueryRowContext(ctx, "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			return 0, 0, fmt.Errorf("count the rows of %s: %w", table, err)
		}
		rows += n
	}
	const ended = 4 // "succeeded" in the store's table of counters
	if err := db.QueryRowContext(ctx, "SELECT coalesce(sum(n), 0) FROM run_counters WHERE state = ?", ended).Scan(&succeeded); err != nil {
		return 0, 0, fmt.Errorf("read the counters of runs: %w", err)
	}
	return rows, succeeded, nil
}
