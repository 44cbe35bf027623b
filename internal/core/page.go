package core

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"
)

// Page is the part of a list that is wanted. The zero value is the first
// page of the usual size.
type Page struct {
	// Cursor is what the page before said comes next; empty for the first.
	Cursor string
	// Limit is how many items at most; 0 means DefaultPageSize.
	Limit int
}

// The sizes of pages.
const (
	DefaultPageSize = 50
	MaxPageSize     = 1000
)

// Size gives the limit, bounded.
func (p Page) Size() int {
	if p.Limit <= 0 {
		return DefaultPageSize
	}
	return min(p.Limit, MaxPageSize)
}

// Cursor makes the cursor that continues a list after the item with these
// sort keys. It is opaque to whoever carries it.
func Cursor(keys ...string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(keys, "\x00")))
}

// After gives the n sort keys of the item after which the page begins, nil
// for the first page. A cursor that [Cursor] did not make of n keys is
// [KindInvalid].
func (p Page) After(n int) ([]string, error) {
	if p.Cursor == "" {
		return nil, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err != nil {
		return nil, badCursor(p.Cursor)
	}
	keys := strings.Split(string(text), "\x00")
	if len(keys) != n {
		return nil, badCursor(p.Cursor)
	}
	return keys, nil
}

// AfterRun gives the lowest id of run that the pages before have shown, 0 for
// the first page. Errors are those of After.
func (p Page) AfterRun() (RunID, error) {
	keys, err := p.After(1)
	if err != nil || keys == nil {
		return 0, err
	}
	id, err := ParseRunID(keys[0])
	if err != nil || id <= 0 {
		return 0, badCursor(p.Cursor)
	}
	return id, nil
}

// AfterNumber gives the lowest number that the pages before have shown, the
// highest there is for the first page. Errors are those of After.
func (p Page) AfterNumber() (int, error) {
	keys, err := p.After(1)
	if err != nil || keys == nil {
		return math.MaxInt, err
	}
	n, err := strconv.Atoi(keys[0])
	if err != nil || n <= 0 {
		return 0, badCursor(p.Cursor)
	}
	return n, nil
}

func badCursor(cursor string) error {
	return Invalid("the cursor %q is not one that this list gave: leave it out to begin at the first page", cursor)
}
