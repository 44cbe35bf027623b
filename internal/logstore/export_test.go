package logstore

import (
	"context"
	"fmt"

	"github.com/dayfly-io/dayfly/internal/sqlitefile"
)

// Pack and Unpack are the encoding of chunks.
var (
	Pack   = pack
	Unpack = unpack
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
