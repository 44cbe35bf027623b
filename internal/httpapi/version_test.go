package httpapi_test

import (
	"strings"
	"testing"
)

func TestVersions(t *testing.T) {
	t.Parallel()
	h, _ := handler(&ports{})
	const function = "/v1/apps/shop/functions/resize"
	for _, tt := range []struct {
		method, target, body, header string
		status                       int
		tells                        string
	}{
		{"GET", function + "/versions?limit=1", "", "", 200, `"next_cursor":"more"`},
		{"GET", function + "/versions/2", "", "", 200, `"version":2`},
		{"GET", function + "/versions/9", "", "", 404, "there is no version 9"},
		{"GET", function + "/versions/0", "", "", 422, "version"},
		{"POST", function + "/rollback", `{"to":2}`, "", 200, `"version":4`},
		{"POST", function + "/rollback", `{}`, "", 200, `"version":4`},
		{"POST", function + "/rollback", `{"to":0}`, "", 422, "to"},
		{"POST", function + "/rollback", `{"to":2}`, `If-Match: "other"`, 412, "conflict"},
		{"POST", function + "/rollback", `{"to":2}`, "If-Match: " + someFunction.Function.ETag(), 200, `"etag"`},
	} {
		headers := []string{"Content-Type: application/json"}
		if tt.header != "" {
			headers = append(headers, tt.header)
		}
		w := ask(t, h, tt.method, tt.target, tt.body, headers...)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.tells) {
			t.Errorf("%s %s %s: status %d, %s", tt.method, tt.target, tt.body, w.Code, w.Body)
		}
	}
}
