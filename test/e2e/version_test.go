package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

func TestVersionsAndRollback(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	deploy := func(word string) {
		t.Helper()
		s.deploy(t, "versions", fmt.Sprintf(`
functions:
  f: {image: "misbehave:1", memory: 64MiB, command: [/misbehave, web], env: {WORD: %q}}
`, word))
	}
	answers := func(want string) {
		t.Helper()
		if a := s.get(t, "/f/versions/f/env").want(t, http.StatusOK); !strings.Contains(a.body, `"WORD=`+want+`"`) {
			t.Errorf("its environment has no WORD=%s: %s", want, a.body)
		}
	}
	deploy("one")
	answers("one")
	deploy("two")
	answers("two")
	if out := s.does(t, "version", "list", "versions/f"); !strings.Contains(out, "called") || len(strings.Split(strings.TrimSpace(out), "\n")) != 3 {
		t.Errorf("the versions are\n%s", out)
	}
	s.fails(t, 8, []string{""}, "version", "diff", "versions/f")
	s.does(t, "function", "rollback", "versions/f")
	answers("one")
	if out := s.does(t, "version", "list", "versions/f"); !strings.Contains(out, "called, rolled back to 1") {
		t.Errorf("the versions are\n%s", out)
	}
	s.does(t, "version", "diff", "versions/f", "1", "3")
	s.fails(t, 5, []string{"none before it"}, "function", "rollback", "versions/f")
	s.fails(t, 3, []string{"no version 9"}, "function", "rollback", "versions/f", "--to", "9")
}

// Those who change the same function from the same state: one wins.
func TestOneOfManyDeploysWins(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "race", "f", "web")
	tag := s.get(t, "/v1/apps/race/functions/f").want(t, http.StatusOK).header.Get("ETag")
	const deploys = 8
	var statuses [deploys]int
	var wait sync.WaitGroup
	for i := range deploys {
		wait.Go(func() {
			body := strings.NewReader(fmt.Sprintf(`{"image":"misbehave:1","command":["/misbehave","web"],"env":{"WORD":"%d"}}`, i))
			r := s.request(t.Context(), t, "PUT", "/v1/apps/race/functions/f", body)
			r.Header.Set("If-Match", tag)
			r.Header.Set("Content-Type", "application/json")
			statuses[i] = try(r).status
		})
	}
	wait.Wait()
	won := 0
	for _, status := range statuses {
		switch status {
		case http.StatusOK:
			won++
		case http.StatusPreconditionFailed:
		default:
			t.Errorf("a deploy is answered with %d", status)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d deploys won", won, deploys)
	}
}
