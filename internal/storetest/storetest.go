package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/catalog"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/deploy"
	"github.com/dayfly-io/dayfly/internal/invoke"
	"github.com/dayfly-io/dayfly/internal/logstore"
	"github.com/dayfly-io/dayfly/internal/maintain"
	"github.com/dayfly-io/dayfly/internal/memory"
	"github.com/dayfly-io/dayfly/internal/sqlite"
)

// DefinitionStore is a store of definitions.
type DefinitionStore interface {
	deploy.Store
	catalog.Store
}

// RunStore is a store of runs.
type RunStore interface {
	invoke.Store
	maintain.Store
	// Counters tells how many runs of each function have ended in which
	// state, also those that have been forgotten.
	Counters(ctx context.Context) ([]core.RunCounter, error)
}

// LogStore is a store of logs.
type LogStore interface {
	invoke.LogStore
	maintain.LogStore
}

var (
	_ DefinitionStore = (*sqlite.Store)(nil)
	_ DefinitionStore = (*memory.Store)(nil)
	_ RunStore        = (*sqlite.Store)(nil)
	_ RunStore        = (*memory.Store)(nil)
	_ LogStore        = (*logstore.Store)(nil)
	_ LogStore        = (*memory.Logs)(nil)
)

// start is the instant at which the tests' clocks stand.
var start = time.Date(2026, 5, 4, 3, 2, 1, 234_567_000, time.UTC)

// equal fails unless got and want are deeply equal, and shows both.
func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n got %s\nwant %s", what, show(got), show(want))
	}
}

func show(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%+v", v)
	}
	return string(text)
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatalf("unexpected error: %v", err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func isKind(t *testing.T, err error, kind core.Kind) {
	t.Helper()
	if !core.IsKind(err, kind) {
		t.Fatalf("the error is %v, not of the kind %s", err, kind)
	}
}

// fill sets every field of a struct, at any depth, to something other than
// its zero value, so that a field a store forgets is seen.
func fill(v reflect.Value, n *int64) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(*n)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, n)
			fill(value, n)
			v.SetMapIndex(key, value)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(start.Add(time.Duration(*n) * time.Second)))
			return
		}
		for _, field := range v.Fields() {
			fill(field, n)
		}
	default:
		panic(fmt.Sprintf("a %s cannot be filled", v.Type()))
	}
}

// filled gives a value none of whose fields is zero.
func filled[T any]() T {
	var v T
	var n int64
	fill(reflect.ValueOf(&v).Elem(), &n)
	return v
}
