package sqlite

import (
	"context"
	"fmt"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

// MaxPages bounds the size of the file, in pages of 4 KiB.
func (s *Store) MaxPages(ctx context.Context, n int) error {
	return s.file.Write(ctx, func(tx *sqlitefile.Tx) error {
		rows, err := tx.Query(fmt.Sprintf("PRAGMA max_page_count = %d", n))
		if err != nil {
			return err
		}
		return rows.Close()
	})
}

// Pages tells how many pages the file has.
func (s *Store) Pages(ctx context.Context) (n int, err error) {
	err = s.file.Write(ctx, func(tx *sqlitefile.Tx) error { return tx.QueryRow("PRAGMA page_count", nil, &n) })
	return n, err
}

// ReadDetail reads a packed detail as if it stood in a store without words.
func ReadDetail(b []byte) (core.Run, error) {
	r := core.Run{ID: 1}
	s := Store{words: newWords()}
	return r, s.readDetail(b, &r)
}

// AppendDetail packs the detail of a run all of whose words stand in it.
func AppendDetail(r core.Run) []byte { return appendDetail(nil, &r, codes{}) }

// DropNewKeys takes out of all specs the keys that came later, as they were
// written before there were those.
func (s *Store) DropNewKeys(ctx context.Context) error {
	return s.file.Write(ctx, func(tx *sqlitefile.Tx) error {
		_, err := tx.Exec("UPDATE versions SET spec = json_remove(spec, '$.concurrency', '$.cpu_weight')")
		return err
	})
}
