package api

import "time"

// List is a part of a list.
type List[T any] struct {
	Items []T `json:"items" nullable:"false"`
	// NextCursor asks for what follows; it is empty after the last item.
	NextCursor string `json:"next_cursor,omitempty" doc:"cursor of the next page; absent after the last"`
	// SearchedTo is set when the search stopped at its limit of work before
	// the page was full.
	SearchedTo time.Time `json:"searched_to,omitzero" doc:"set when the search stopped before the page was full: everything made at or after it has been looked at"`
}
