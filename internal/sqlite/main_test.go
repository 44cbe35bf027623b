package sqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlite"
)

// childEnv names what this program does instead of testing, and for which
// path, when a test starts it again.
const childEnv = "DAYFLY_TEST_SQLITE_CHILD"

func TestMain(m *testing.M) {
	what, path, ok := strings.Cut(os.Getenv(childEnv), " ")
	if !ok {
		os.Exit(m.Run())
	}
	child := map[string]func(context.Context, string) error{"save": saveForever, "fill": fillDisk}[what]
	if err := child(context.Background(), path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// again gives a command that runs this program as a child.
func again(t *testing.T, what, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childEnv+"="+what+" "+path)
	return cmd
}

// saveForever saves runs until it is killed, some of them in two steps, and
// prints the number of each batch when it has been acknowledged.
func saveForever(ctx context.Context, path string) error {
	s, err := sqlite.Open(ctx, path, sqlite.Options{PeriodRuns: 500})
	if err != nil {
		return err
	}
	var from int
	if _, err := fmt.Sscan(os.Getenv("FROM"), &from); err != nil {
		return err
	}
	for {
		size := 1 + rand.IntN(50)
		batch := benchRuns(from, size)
		started := batch[0]
		started.State, started.Reason, started.FinishedAt = core.StateRunning, "", time.Time{}
		if err := s.SaveRuns(ctx, []core.Run{started}); err != nil {
			return err
		}
		if err := s.SaveRuns(ctx, batch); err != nil {
			return err
		}
		from += size
		fmt.Println(from)
		if from%7 == 0 {
			if _, err := s.TrimRuns(ctx, 1500, time.Time{}); err != nil {
				return err
			}
		}
	}
}

func TestNoAcknowledgedRunIsLostWhenKilled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	acked := 0
	for round := range 4 {
		from := acked
		// What was saved but not acknowledged before the kill may be there;
		// the next round begins well after it.
		if round > 0 {
			from += 1000
		}
		acked = killWhileSaving(t, path, from)
		s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.EndOrphans(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		kept := max(from, acked-1000)
		for i := kept; i < acked; i++ {
			want := benchRun(i)
			got, err := s.Run(t.Context(), want.ID)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("round %d: the acknowledged run %d of %d is %+v, %v", round, i, acked, got, err)
			}
		}
		if live, err := s.Runs(t.Context(), core.RunFilter{States: []core.State{core.StateRunning}}, core.Page{}); err != nil || len(live.Runs) > 0 {
			t.Fatalf("round %d: runs go on: %v, %v", round, live, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		checkIntegrity(t, path)
	}
}

// killWhileSaving starts a child that saves, kills it at a random moment, and
// tells up to which run it had acknowledged.
func killWhileSaving(t *testing.T, path string, from int) (acked int) {
	t.Helper()
	cmd := again(t, "save", path)
	cmd.Env = append(cmd.Env, fmt.Sprint("FROM=", from))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	stopAfter := 10 + rand.IntN(80)
	for n := 0; lines.Scan(); n++ {
		if _, err := fmt.Sscan(lines.Text(), &acked); err != nil {
			t.Fatal(err)
		}
		if n == stopAfter {
			timer := time.AfterFunc(rand.N(3*time.Millisecond), func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
		}
	}
	err = cmd.Wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL || acked == 0 {
		t.Fatalf("the child ended by itself after run %d: %v\n%s", acked, err, stderr.String())
	}
	return acked
}

func checkIntegrity(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Fatalf("integrity_check says %q, %v", verdict, err)
	}
	var counted, live int
	err = db.QueryRowContext(t.Context(), "SELECT (SELECT sum(runs) FROM run_periods WHERE dropping = 0), (SELECT count(*) FROM live_runs)").Scan(&counted, &live)
	if err != nil || live != 0 {
		t.Fatalf("%d runs are counted, %d live: %v", counted, live, err)
	}
	rows, err := db.QueryContext(t.Context(), "SELECT number FROM run_periods WHERE dropping = 0")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var number, n int
		if err := rows.Scan(&number); err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRowContext(t.Context(), fmt.Sprintf("SELECT count(*) FROM runs_%04d", number)).Scan(&n); err != nil {
			t.Fatal(err)
		}
		counted -= n
	}
	if rows.Err() != nil || counted != 0 {
		t.Fatalf("the periods say %d more than they hold: %v", counted, rows.Err())
	}
}

// TestFullDisk runs fillDisk in a mount namespace of its own.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	cmd := again(t, "fill", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if id := os.Geteuid(); id != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// fillDisk fills a small file system: writes are refused with disk_full,
// reads go on, and writes work again once there is space.
func fillDisk(ctx context.Context, dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
		return fmt.Errorf("mounting a small file system: %w", err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 3<<19), 0o600); err != nil {
		return err
	}
	s, err := sqlite.Open(ctx, filepath.Join(dir, "state.db"), sqlite.Options{PeriodRuns: 1500})
	if err != nil {
		return err
	}
	saved, err := saveUntilFull(ctx, s, 0)
	if err != nil {
		return err
	}
	for range 5 { // it stays refused, and stays readable
		if err := s.SaveRuns(ctx, benchRuns(saved, 500)); !isFull(err) {
			return fmt.Errorf("saving on a full disk: %w", err)
		}
		if _, err := s.SaveVersion(ctx, core.NewVersion{App: "a", Function: "f", Spec: core.Spec{Image: strings.Repeat("x", 1<<20)}.WithDefaults()}); !isFull(err) {
			return fmt.Errorf("saving a version on a full disk: %w", err)
		}
		if err := allThere(ctx, s, saved); err != nil {
			return err
		}
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	if err := s.SaveRuns(ctx, benchRuns(saved, 500)); err != nil {
		return fmt.Errorf("saving after room was made: %w", err)
	}
	if saved, err = saveUntilFull(ctx, s, saved+500); err != nil {
		return err
	}
	if err := allThere(ctx, s, saved); err != nil {
		return err
	}
	return s.Close()
}

func isFull(err error) bool {
	return core.IsKind(err, core.KindUnavailable) && core.AsError(err).Code == core.ReasonDiskFull
}

func saveUntilFull(ctx context.Context, s *sqlite.Store, saved int) (int, error) {
	for range 1000 {
		err := s.SaveRuns(ctx, benchRuns(saved, 500))
		if isFull(err) {
			return saved, nil
		}
		if err != nil {
			return saved, fmt.Errorf("saving run %d: %w", saved, err)
		}
		saved += 500
	}
	return saved, errors.New("the disk does not become full")
}

// allThere checks that exactly the first n runs are there.
func allThere(ctx context.Context, s *sqlite.Store, n int) error {
	found := 0
	for page := (core.Page{Limit: core.MaxPageSize}); ; {
		p, err := s.Runs(ctx, core.RunFilter{}, page)
		if err != nil {
			return fmt.Errorf("listing on a full disk: %w", err)
		}
		found += len(p.Runs)
		if page.Cursor = p.Next; p.Next == "" {
			break
		}
	}
	counters, err := s.Counters(ctx)
	if err != nil {
		return err
	}
	counted := int64(0)
	for _, c := range counters {
		counted += c.Count
	}
	if found != n || counted != int64(n) {
		return fmt.Errorf("%d runs were saved, %d are listed, %d counted", n, found, counted)
	}
	return nil
}
