package manifest_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/manifest"
)

var update = flag.Bool("update", false, "write the golden files anew")

const schemaFile = "../../docs/dayfly.schema.json"

// schema makes the JSON Schema of a manifest from the structs and their
// comments.
func schema(t *testing.T) []byte {
	t.Helper()
	r := jsonschema.Reflector{FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true}
	r.Mapper = func(t reflect.Type) *jsonschema.Schema {
		switch t {
		case reflect.TypeFor[time.Duration]():
			return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`, Examples: []any{"30s", "500ms"}}
		case reflect.TypeFor[core.Bytes]():
			return &jsonschema.Schema{Type: "string", Pattern: `^[0-9]+(\.[0-9]+)? ?([KMGT]iB|[kKMGT]?B)$`, Examples: []any{"128MiB"}}
		case reflect.TypeFor[core.CPU]():
			return &jsonschema.Schema{Type: "number", ExclusiveMinimum: "0", Examples: []any{json.Number("0.5")}}
		case reflect.TypeFor[core.Root]():
			return &jsonschema.Schema{
				Type: "string", Pattern: `^(read_only|writable\([0-9]+(\.[0-9]+)? ?([KMGT]iB|[kKMGT]?B)\))$`, Examples: []any{"read_only", "writable(64MiB)"},
			}
		case reflect.TypeFor[core.Annotations]():
			return &jsonschema.Schema{Type: "object"}
		case reflect.TypeFor[map[string]string]():
			return &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{
				OneOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}},
			}}
		}
		return nil
	}
	if err := r.AddGoComments("github.com/dayfly-io/dayfly/internal/manifest", "./"); err != nil {
		t.Fatal(err)
	}
	s := r.Reflect(&manifest.File{})
	s.ID, s.Title = "", "dayfly.yaml"
	s.Definitions["Function"].OneOf = []*jsonschema.Schema{{Required: []string{"image"}}, {Required: []string{"build"}}}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSchemaFileIsTheOneOfTheStructs(t *testing.T) {
	t.Parallel()
	got := schema(t)
	if *update {
		if err := os.WriteFile(schemaFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the structs say: run go test ./internal/manifest -update", schemaFile)
	}
}

func TestSchemaDescribesEveryKey(t *testing.T) {
	t.Parallel()
	var s struct {
		Defs map[string]struct {
			Properties map[string]struct {
				Description string `json:"description"`
			} `json:"properties"`
			AdditionalProperties bool `json:"additionalProperties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(schema(t), &s); err != nil {
		t.Fatal(err)
	}
	for _, def := range []string{"File", "Function", "Build", "Mount", "Instances", "Concurrency", "Limits"} {
		if len(s.Defs[def].Properties) == 0 || s.Defs[def].AdditionalProperties {
			t.Errorf("%s has no properties, or lets others pass", def)
		}
		for key, p := range s.Defs[def].Properties {
			if !strings.HasSuffix(p.Description, ".") {
				t.Errorf("%s.%s has the description %q", def, key, p.Description)
			}
		}
	}
}
