package api

import (
	"encoding/json"
	"time"
)

// DefaultApp is the app that is meant where none is named.
const DefaultApp = "default"

// App is a namespace: it groups functions.
type App struct {
	ID          string      `json:"id" doc:"app_ and 13 characters" example:"app_0002m1w5x1g00"`
	Name        string      `json:"name"`
	Description string      `json:"description,omitempty"`
	Annotations Annotations `json:"annotations,omitempty"`
	CreatedAt   time.Time   `json:"created_at"`
	UpdatedAt   time.Time   `json:"updated_at"`
}

// Annotations are a user's own notes on a noun: a JSON value under a key. At
// most 100, a key of 1 to 128 printable characters, a value of up to 512
// bytes.
type Annotations map[string]json.RawMessage
