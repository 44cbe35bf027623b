package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

// counterKey is what a counter counts.
type counterKey struct{ function, state int64 }

// addCounters adds what a batch changed, one statement for each counter.
func (s *Store) addCounters(tx *sqlitefile.Tx, delta map[counterKey]int64) error {
	for key, n := range delta {
		if n == 0 {
			continue
		}
		if _, err := tx.Exec(`INSERT INTO run_counters (function, state, n) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET n = n + excluded.n`, key.function, key.state, n); err != nil {
			return fmt.Errorf("counting runs: %w", err)
		}
	}
	return nil
}

// Counters tells how many runs of each function have ended in which state
// since the store began, also runs that have been forgotten.
func (s *Store) Counters(ctx context.Context) ([]core.RunCounter, error) {
	var counters []core.RunCounter
	err := s.file.Read(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT function, state, n FROM run_counters WHERE n > 0 ORDER BY function, state")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var function, state, n int64
			if err := rows.Scan(&function, &state, &n); err != nil {
				return err
			}
			v := s.names.get(function)
			counters = append(counters, core.RunCounter{
				AppID: v.appID, FunctionID: v.functionID, App: v.app, Function: v.function,
				State: stateOf(state), Count: n,
			})
		}
		return rows.Err()
	})
	return counters, s.describe("reading the counters of runs", err)
}
