package e2e_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
)

const token = "0123456789abcdef-0123456789abcdef"

func TestDoorOnLoopbackIsOpenToThisMachineOnly(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	s.create(t, "door", "f", "web")
	ask := func(method, target string, header ...string) answer {
		r := s.request(t.Context(), t, method, target, nil)
		for i := 0; i < len(header); i += 2 {
			if header[i] == "Host" {
				r.Host = header[i+1]
				continue
			}
			r.Header.Set(header[i], header[i+1])
		}
		return send(t, r)
	}
	port := s.url[strings.LastIndex(s.url, ":"):]
	for _, c := range []struct {
		method, target string
		header         []string
		status         int
	}{
		{"GET", "/v1/functions", nil, 200},
		{"GET", "/v1/functions", []string{"Host", "localhost" + port}, 200},
		{"GET", "/v1/functions", []string{"Host", "evil.example"}, 403},
		{"GET", "/f/door/f/hello", []string{"Host", "evil.example" + port}, 403},
		{"GET", "/f/door/f/hello", []string{"Host", "127.0.0.1.evil.example"}, 403},
		{"POST", "/f/door/f/hello", []string{"Origin", "https://evil.example"}, 403},
		{"GET", "/f/door/f/hello", []string{"Origin", "https://evil.example"}, 403},
		{"GET", "/f/door/f/hello", []string{"Origin", "null"}, 403},
		{"GET", "/f/door/f/hello", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"GET", "/f/door/f/hello", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"POST", "/f/door/f/hello", []string{"Origin", s.url}, 200},
		{"DELETE", "/v1/apps/door/functions/f", []string{"Origin", "https://evil.example"}, 403},
		{"DELETE", "/v1/apps/door/functions/f", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"GET", "/healthz", []string{"Host", "evil.example"}, 200},
	} {
		a := ask(c.method, c.target, c.header...)
		if a.status != c.status {
			t.Errorf("%s %s with %v is answered %d, want %d: %s", c.method, c.target, c.header, a.status, c.status, a.body)
		} else if c.status == 403 {
			a.problem(t, 403, "forbidden")
			if a.header.Get("Dayfly-Run-Id") != "" {
				t.Errorf("%s %s with %v made a run", c.method, c.target, c.header)
			}
		}
		if got := a.header.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("%s %s lets other origins in: %q", c.method, c.target, got)
		}
	}
}

func TestDoorElsewhereNeedsAToken(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0"} {
		r := refused(t, options{listen: listen})
		if r.code() == 0 {
			t.Errorf("listening on %s without a token should be an error", listen)
		}
		wantWords(t, r.log, "DAYFLY_TOKEN")
	}
	short := refused(t, options{listen: "0.0.0.0:0", env: []string{"DAYFLY_TOKEN=short"}})
	wantWords(t, short.log, "token", "5 characters", "16")
}

func TestDoorWithAToken(t *testing.T) {
	t.Parallel()
	s := start(t, options{listen: "0.0.0.0:0", env: []string{"DAYFLY_TOKEN=" + token}})
	s.url = "http://127.0.0.1" + s.url[strings.LastIndex(s.url, ":"):]
	s.env = []string{"DAYFLY_URL=" + s.url}
	s.fails(t, 4, []string{"DAYFLY_TOKEN"}, "function", "list")
	a := s.get(t, "/v1/functions")
	a.problem(t, 401, "unauthenticated", "token")
	if !strings.HasPrefix(a.header.Get("Www-Authenticate"), "Bearer") {
		t.Errorf("a 401 should say how to come in: %v", a.header)
	}
	s.get(t, "/f/default/f").problem(t, 401, "unauthenticated")
	s.get(t, "/healthz").want(t, 200)
	s.get(t, "/readyz").want(t, 200)
	wrong := *s
	wrong.env = append(wrong.env, "DAYFLY_TOKEN=not-the-token-of-this-server")
	wrong.fails(t, 4, []string{"not the one"}, "function", "list")

	s.env = append(s.env, "DAYFLY_TOKEN="+token)
	loadMisbehave(t, s)
	s.create(t, "token", "f", "web")
	r := s.request(t.Context(), t, http.MethodGet, "/f/token/f/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Host = "any.example"
	e := decode[echoed](t, send(t, r).want(t, 200).body)
	if e.Header.Get("Authorization") != "" || strings.Contains(e.Body, token) {
		t.Errorf("the function was told the token: %v", e.Header)
	}
	wantWords(t, s.does(t, "invoke", "token/f", "--path", "/hello", "-d", ""), "hello")
	cannotReachTheHost(t, s)
	if strings.Contains(s.log.String(), token) {
		t.Error("the token stands in the server's log")
	}
}

// cannotReachTheHost lets functions knock at the server, which listens on all
// addresses of the machine.
func cannotReachTheHost(t *testing.T, s *server) {
	t.Helper()
	port := s.url[strings.LastIndex(s.url, ":")+1:]
	s.create(t, "token", "egress", "dial", "--contract", "job")
	s.create(t, "token", "none", "dial", "--contract", "job", "--network", "none")
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	gateways := 0
	for _, a := range addresses {
		ip, _, err := net.ParseCIDR(a.String())
		if err != nil || ip.To4() == nil {
			continue
		}
		target := net.JoinHostPort(ip.String(), port)
		c, err := net.Dial("tcp", target)
		if err != nil {
			t.Errorf("the server should answer on %s: %v", target, err)
			continue
		}
		_ = c.Close()
		if !ip.IsLoopback() {
			gateways++
		}
		for _, name := range []string{"egress", "none"} {
			if out := s.does(t, "invoke", "token/"+name, "-d", target); !strings.HasPrefix(out, "failed:") {
				t.Errorf("a function with the network %s reaches %s: %s", name, target, out)
			}
		}
	}
	if gateways == 0 {
		t.Errorf("the machine has no address that functions could try: %v", addresses)
	}
}
