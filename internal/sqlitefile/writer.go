package sqlitefile

import (
	"context"
	"fmt"
	"sync/atomic"
)

// maxGroup bounds how many writes share a transaction, so that none waits
// long for the others.
const maxGroup = 512

// request is a write on its way through the writer.
type request struct {
	do    func(*Tx) error
	taken atomic.Bool // by the writer, or by the caller who gave it up
	err   error
	done  chan struct{}
}

// Write runs do in a transaction that others may share, and returns when it
// has been committed. An error of do that comes before its first statement
// that writes is answered and changes nothing for the others; one that comes
// after rolls back. When ctx ends before the writer took the write up, it is
// not done; afterwards the outcome is waited for.
func (f *File) Write(ctx context.Context, do func(*Tx) error) error {
	r := &request{do: do, done: make(chan struct{})}
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return ErrClosed
	}
	f.queue = append(f.queue, r)
	f.mu.Unlock()
	f.signal()
	select {
	case <-r.done:
	case <-ctx.Done():
		if r.taken.CompareAndSwap(false, true) {
			return fmt.Errorf("waiting for the database's writer: %w", ctx.Err())
		}
		<-r.done
	}
	return r.err
}

func (f *File) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// writer is the goroutine that owns the writing connection.
func (f *File) writer() {
	defer close(f.done)
	for {
		<-f.wake
		for {
			group, closed := f.take()
			if len(group) > 0 {
				f.commit(group)
				continue
			}
			if closed {
				return
			}
			break
		}
	}
}

// take takes what has gathered, leaving out what its caller gave up.
func (f *File) take() (group []*request, closed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(len(f.queue), maxGroup)
	for _, r := range f.queue[:n] {
		if r.taken.CompareAndSwap(false, true) {
			group = append(group, r)
		}
	}
	f.queue = append(f.queue[:0], f.queue[n:]...)
	return group, f.closed && len(f.queue) == 0
}

// commit does a group in one transaction, and one by one when that breaks, so
// that one write's trouble is not the others'.
func (f *File) commit(group []*request) {
	err := f.transaction(group)
	for _, r := range group {
		if err != nil {
			r.err = err
			if len(group) > 1 {
				if alone := f.transaction([]*request{r}); alone != nil {
					r.err = alone
				}
			}
		}
		close(r.done)
	}
}

// transaction does the writes of a group. An error is one of the whole; what
// a write refused by itself is in its request.
func (f *File) transaction(group []*request) error {
	if _, err := f.tx.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("beginning a transaction: %w", f.explain(err))
	}
	for _, r := range group {
		f.tx.wrote = false
		r.err = r.do(&f.tx)
		if r.err != nil && f.tx.wrote {
			f.rollback()
			return f.explain(r.err)
		}
		r.err = f.explain(r.err)
	}
	if _, err := f.tx.exec("COMMIT"); err != nil {
		f.rollback()
		return fmt.Errorf("committing: %w", f.explain(err))
	}
	f.end(true)
	return nil
}

func (f *File) end(committed bool) {
	if f.ended != nil {
		f.ended(committed)
	}
}

func (f *File) rollback() {
	// SQLite has rolled back by itself after some errors; then there is no
	// transaction to roll back and the error says only that.
	_, _ = f.tx.exec("ROLLBACK")
	f.end(false)
}
