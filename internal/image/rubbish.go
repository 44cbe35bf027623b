package image

import (
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// rubbish is what is to be deleted when nothing else goes on. On ext4, files
// that are made right after many were deleted take five to ten times as long:
// so nothing is deleted while images are unpacked, and in small pieces else.
type rubbish struct {
	mu     sync.Mutex
	dirs   []string
	runs   bool // somebody deletes
	busy   int  // loads and pulls under way
	closed bool
	turn   chan struct{} // closed when busy is 0 again, or at the end
}

// active says that images come in, until it is told otherwise.
func (s *Store) active() (done func()) {
	r := &s.rubbish
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.busy--; r.busy == 0 {
			r.wake()
		}
	}
}

// wake lets the deleting look again; the caller holds mu.
func (r *rubbish) wake() {
	if r.turn != nil {
		close(r.turn)
		r.turn = nil
	}
}

func (r *rubbish) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.wake()
}

// throw has directories deleted in the background. What is not when the store
// is closed, the next Open has deleted.
func (s *Store) throw(dirs ...string) {
	r := &s.rubbish
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirs = append(r.dirs, dirs...)
	if len(r.dirs) == 0 || r.runs || r.closed {
		return
	}
	r.runs = true
	s.background.Go(s.emptyRubbish)
}

func (s *Store) emptyRubbish() {
	for {
		dir, ok := s.rubbish.next()
		if !ok {
			return
		}
		if err := s.rubbish.remove(dir, pieceDepth); err != nil {
			s.opts.Logger.Warn("leftover of an image cannot be removed", slog.String("path", dir), slog.Any("error", err))
		}
	}
}

// next gives what is to be deleted next; false when there is nothing.
func (r *rubbish) next() (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.dirs) == 0 || r.closed {
		r.runs = false
		return "", false
	}
	dir := r.dirs[0]
	r.dirs = r.dirs[1:]
	return dir, true
}

const (
	// pieceDepth is how deep the directories are that are deleted in one
	// piece: deep enough that none has more than some thousand files.
	pieceDepth = 4
	// piecePause lets others at the disk between two pieces.
	piecePause = time.Millisecond
)

// remove deletes a directory in pieces. What is in it may be hostile, but
// nobody changes it any more, and links are not followed.
func (r *rubbish) remove(dir string, depth int) error {
	if depth > 0 {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.IsDir() {
				continue
			}
			if err := r.remove(filepath.Join(dir, e.Name()), depth-1); err != nil {
				return err
			}
		}
	}
	if !r.await() {
		return nil
	}
	return os.RemoveAll(dir) //nolint:wrapcheck // it names the path
}

// await waits until nothing else goes on; false when the store closes.
func (r *rubbish) await() bool {
	time.Sleep(piecePause)
	for {
		r.mu.Lock()
		closed, busy := r.closed, r.busy > 0
		if busy && !closed && r.turn == nil {
			r.turn = make(chan struct{})
		}
		turn := r.turn
		r.mu.Unlock()
		if closed || !busy {
			return !closed
		}
		<-turn
	}
}
