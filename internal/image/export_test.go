package image

import (
	"context"
	"time"
)

// SetRatioFrom makes the bound of the compression ratio hold from n bytes on,
// so that a test needs no large bomb.
func SetRatioFrom(s *Store, n int64) { s.ratioFrom = n }

// WaitSwept waits until leftovers are removed.
func WaitSwept(s *Store) { s.background.Wait() }

// SetPause makes the pause after a try of a download that failed d.
func SetPause(s *Store, d time.Duration) { s.pause = d }

// Lock takes the right to change what is on disk, as a load does.
func Lock(s *Store) (unlock func()) {
	s.writing <- struct{}{}
	return s.unlock
}

// UnpackLayer unpacks a blob of a file into the new directory dir: read,
// decompress, verify, write.
func UnpackLayer(ctx context.Context, s *Store, file, diffID, dir string) error {
	_, err := s.unpackLayer(ctx, &blob{file: file}, diffID, dir, s.newRoom())
	return err
}

// WaitIdle waits until no pull is under way.
func WaitIdle(s *Store) { s.background.Wait() }
