package httpapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/dayfly-io/dayfly/internal/httpapi"
)

var update = flag.Bool("update", false, "write golden files anew")

const golden = "../../api/openapi.json"

func TestOpenAPIDocumentIsInStep(t *testing.T) {
	t.Parallel()
	raw, err := httpapi.New(httpapi.Config{}).Document()
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := json.Indent(&got, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	got.WriteByte('\n')
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("api/openapi.json is not what the routes say; run go test ./internal/httpapi -update and look at the difference")
	}
}
