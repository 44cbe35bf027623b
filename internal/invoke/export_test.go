package invoke

// Bound sets how many runs, and bytes of their logs, may wait to be written.
func (s *Service) Bound(runs int, bytes int64) {
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	s.recorder.maxPending, s.recorder.maxHeld = runs, bytes
}

// Held tells how many bytes of logs are kept in memory, and how many runs.
func (s *Service) Held() (bytes int64, runs int) {
	return s.recorder.held.Load(), len(s.runs.all())
}
