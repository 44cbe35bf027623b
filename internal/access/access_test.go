package access_test

import (
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/access"
	"github.com/dayfly-io/dayfly/internal/core"
)

const token = "dfp_0123456789abcdefghij"

func open(t testing.TB, cfg access.Config) *access.Service {
	t.Helper()
	s, err := access.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpenDoor(t *testing.T) {
	t.Parallel()
	door := open(t, access.Config{Loopback: true, AllowedHosts: []string{"dayfly.test"}})
	for _, tt := range []struct {
		name  string
		visit core.Visit
		in    bool
	}{
		{"curl", core.Visit{Method: "POST", Host: "127.0.0.1:8080"}, true},
		{"localhost", core.Visit{Method: "GET", Host: "localhost:8080"}, true},
		{"LOCALHOST", core.Visit{Method: "GET", Host: "LocalHost"}, true},
		{"IPv6", core.Visit{Method: "GET", Host: "[::1]:8080"}, true},
		{"IPv6 without port", core.Visit{Method: "GET", Host: "[::1]"}, true},
		{"configured name", core.Visit{Method: "GET", Host: "dayfly.test:80"}, true},
		{"rebound name", core.Visit{Method: "GET", Host: "evil.example"}, false},
		{"rebound name with our port", core.Visit{Method: "GET", Host: "evil.example:8080"}, false},
		{"name that begins like ours", core.Visit{Method: "GET", Host: "127.0.0.1.evil.example"}, false},
		{"name that ends like ours", core.Visit{Method: "GET", Host: "evil-localhost"}, false},
		{"no host", core.Visit{Method: "GET"}, false},
		{"broken IPv6", core.Visit{Method: "GET", Host: "[::1"}, false},
		{"IPv6 and a tail", core.Visit{Method: "GET", Host: "[::1].evil.example"}, false},
		{"rebound name to a function", core.Visit{Method: "GET", Host: "evil.example", Function: true}, false},

		{"page of ours", core.Visit{Method: "PUT", Host: "localhost:8080", Origin: "http://localhost:8080", FetchSite: "same-origin"}, true},
		{"page of ours, old browser", core.Visit{Method: "PUT", Host: "localhost:8080", Origin: "http://localhost:8080"}, true},
		{"typed into the address bar", core.Visit{Method: "GET", Host: "localhost:8080", FetchSite: "none", Function: true}, true},
		{"foreign page writes", core.Visit{Method: "POST", Host: "localhost:8080", Origin: "http://evil.example", FetchSite: "cross-site"}, false},
		{"foreign page writes, old browser", core.Visit{Method: "DELETE", Host: "localhost:8080", Origin: "http://evil.example"}, false},
		{"foreign page writes, Origin left out", core.Visit{Method: "PUT", Host: "localhost:8080", FetchSite: "cross-site"}, false},
		{"other port of this machine writes", core.Visit{Method: "POST", Host: "localhost:8080", Origin: "http://localhost:3000", FetchSite: "same-site"}, false},
		{"sandboxed page writes", core.Visit{Method: "POST", Host: "localhost:8080", Origin: "null"}, false},
		{"foreign page reads the API", core.Visit{Method: "GET", Host: "localhost:8080", Origin: "http://evil.example", FetchSite: "cross-site"}, true},
		{"foreign page calls a function", core.Visit{Method: "GET", Host: "localhost:8080", Origin: "http://evil.example", FetchSite: "cross-site", Function: true}, false},
		{"foreign page opens a websocket", core.Visit{Method: "GET", Host: "localhost:8080", Origin: "https://evil.example", Function: true}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := door.Enter(t.Context(), tt.visit)
			if !tt.in {
				if !core.IsKind(err, core.KindForbidden) {
					t.Fatalf("got %v and %v, want forbidden", p, err)
				}
				return
			}
			if err != nil || p != (core.Principal{Name: "local", Local: true}) {
				t.Errorf("got %v and %v, want local", p, err)
			}
		})
	}
}

func TestTokenDoor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, authorization string
		in                  bool
	}{
		{"right", "Bearer " + token, true},
		{"scheme in lower case", "bearer " + token, true},
		{"none", "", false},
		{"wrong", "Bearer " + strings.ToUpper(token), false},
		{"begins right", "Bearer " + token[:len(token)-1], false},
		{"goes on", "Bearer " + token + "x", false},
		{"zero bytes after", "Bearer " + token + "\x00", false},
		{"no scheme", token, false},
		{"other scheme", "Basic " + token, false},
		{"nothing after the scheme", "Bearer ", false},
		{"very long", "Bearer " + strings.Repeat("x", access.MaxToken+1), false},
	} {
		for _, loopback := range []bool{true, false} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				door := open(t, access.Config{Token: token, Loopback: loopback})
				p, err := door.Enter(t.Context(), core.Visit{Method: "GET", Host: "example.com", Authorization: tt.authorization})
				if !tt.in {
					if !core.IsKind(err, core.KindUnauthenticated) || strings.Contains(err.Error(), token[4:]) {
						t.Fatalf("got %v and %v, want unauthenticated and no token in it", p, err)
					}
					return
				}
				if err != nil || p != (core.Principal{Name: "token"}) {
					t.Errorf("got %v and %v, want token", p, err)
				}
			})
		}
	}
}

func TestNewRefusesAnOpenDoorToTheNetwork(t *testing.T) {
	t.Parallel()
	for _, cfg := range []access.Config{
		{},
		{AllowedHosts: []string{"example.com"}},
		{Token: "short", Loopback: true},
		{Token: strings.Repeat("x", access.MaxToken+1)},
		{Token: "with a space in its middle"},
	} {
		if _, err := access.New(cfg); !core.IsKind(err, core.KindInvalid) {
			t.Errorf("New(%+v) gives %v, want invalid", cfg, err)
		}
	}
}

func TestCheckListen(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		addr, token string
		ok          bool
	}{
		{"127.0.0.1:8080", "", true},
		{"127.9.9.9:0", "", true},
		{"localhost:8080", "", true},
		{"[::1]:8080", "", true},
		{"[::ffff:127.0.0.1]:8080", "", true},
		{":8080", "", false},
		{"0.0.0.0:8080", "", false},
		{"[::]:8080", "", false},
		{"192.0.2.1:8080", "", false},
		{"example.com:80", "", false},
		{"127.0.0.1.example.com:80", "", false},
		{"0.0.0.0:8080", token, true},
		{"0.0.0.0:8080", "short", false},
		{"8080", token, false},
		{"127.0.0.1", "", false},
	} {
		if err := access.CheckListen(tt.addr, tt.token); (err == nil) != tt.ok || err != nil && !core.IsKind(err, core.KindInvalid) {
			t.Errorf("CheckListen(%q, %q) gives %v, want ok: %t", tt.addr, tt.token, err, tt.ok)
		}
	}
}

func TestEnterMakesNoGarbage(t *testing.T) { //nolint:paralleltest // allocations are counted
	ctx := t.Context()
	for name, c := range map[string]struct {
		door  *access.Service
		visit core.Visit
	}{
		"open": {
			open(t, access.Config{Loopback: true}),
			core.Visit{Method: "POST", Host: "127.0.0.1:8080", Origin: "http://127.0.0.1:8080", Function: true},
		},
		"token": {
			open(t, access.Config{Token: token}),
			core.Visit{Method: "POST", Host: "example.com", Authorization: "Bearer " + token, Function: true},
		},
	} {
		if n := testing.AllocsPerRun(100, func() {
			if _, err := c.door.Enter(ctx, c.visit); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("the %s door allocates %v times per visit", name, n)
		}
	}
}

func BenchmarkEnter(b *testing.B) {
	for name, c := range map[string]struct {
		door  *access.Service
		visit core.Visit
	}{
		"open":  {open(b, access.Config{Loopback: true}), core.Visit{Method: "POST", Host: "127.0.0.1:8080", Function: true}},
		"token": {open(b, access.Config{Token: token}), core.Visit{Method: "POST", Authorization: "Bearer " + token}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.door.Enter(b.Context(), c.visit); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
