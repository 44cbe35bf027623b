package peer_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/bench/peer"
)

func TestProxyPassesOnAndBack(t *testing.T) {
	t.Parallel()
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Asked", r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("X-Mine"))
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(body) // the client says what came
	}))
	defer behind.Close()
	proxy := httptest.NewServer(peer.NewProxy(strings.TrimPrefix(behind.URL, "http://")))
	defer proxy.Close()
	req, err := http.NewRequestWithContext(t.Context(), "PUT", proxy.URL+"/a%20b?c=d", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Mine", "yes")
	answer, err := proxy.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusTeapot || string(body) != "body" || answer.Header.Get("X-Asked") != "PUT /a%20b?c=d yes" {
		t.Errorf("got %d %v %q, %v", answer.StatusCode, answer.Header, body, err)
	}
}

func TestProxySaysThatNobodyIsBehindIt(t *testing.T) {
	t.Parallel()
	behind := httptest.NewServer(http.NotFoundHandler())
	behind.Close()
	w := httptest.NewRecorder()
	peer.NewProxy(strings.TrimPrefix(behind.URL, "http://")).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
	if w.Code != http.StatusBadGateway {
		t.Errorf("got %d", w.Code)
	}
}
