package core

import (
	"bytes"
	"encoding/json"
	"maps"
	"time"
	"unicode"
	"unicode/utf8"
)

// DefaultApp is the app that is meant where none is named.
const DefaultApp = "default"

// App is a namespace: it groups functions.
type App struct {
	ID          AppID
	Name        string
	Description string
	Annotations Annotations
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// Annotations are a user's own notes on a noun: a JSON value under a key.
type Annotations map[string]json.RawMessage

// Equal reports whether both hold the same values under the same keys; white
// space in them makes no difference.
func (a Annotations) Equal(b Annotations) bool {
	return maps.EqualFunc(a, b, func(x, y json.RawMessage) bool {
		var left, right bytes.Buffer
		return json.Compact(&left, x) == nil && json.Compact(&right, y) == nil && bytes.Equal(left.Bytes(), right.Bytes())
	})
}

// The limits of names and annotations.
const (
	MaxName           = 255
	MaxAnnotations    = 100
	MaxAnnotationKey  = 128
	MaxAnnotationSize = 512
)

// ValidateName checks the name of a noun: 1 to 255 characters, letters and
// digits of any script, '_' and '-'.
func ValidateName(noun, name string) error {
	n := utf8.RuneCountInString(name)
	if n == 0 || n > MaxName {
		return Invalid("the name of the %s has %d characters; it may have 1 to %d", noun, n, MaxName)
	}
	for _, r := range name {
		if r == utf8.RuneError || r != '_' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return Invalid("the name %q of the %s has the character %q; letters, digits, _ and - may stand in it", name, noun, r)
		}
	}
	return nil
}

// Validate checks number, keys and values of the annotations.
func (a Annotations) Validate() error {
	if len(a) > MaxAnnotations {
		return Invalid("there are %d annotations; at most %d may be kept", len(a), MaxAnnotations)
	}
	for k, v := range a {
		if k == "" || len(k) > MaxAnnotationKey {
			return Invalid("the annotation key %q has %d bytes; it may have 1 to %d", k, len(k), MaxAnnotationKey)
		}
		for i := range len(k) {
			if k[i] < '!' || k[i] > '~' {
				return Invalid("the annotation key %q has a character that is not printable ASCII", k)
			}
		}
		if len(v) == 0 || len(v) > MaxAnnotationSize || !json.Valid(v) {
			return Invalid("the annotation %q must hold a JSON value of 1 to %d bytes", k, MaxAnnotationSize)
		}
	}
	return nil
}
