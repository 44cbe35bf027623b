package registry_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image/registry"
)

type noKeys struct{}

func (noKeys) Credentials(context.Context, string) (core.RegistryCredentials, error) {
	return core.RegistryCredentials{}, nil
}

// world is a server that stands for every host there is.
func world(t *testing.T, withTLS bool, o registry.Options, serve http.HandlerFunc) *registry.Client {
	t.Helper()
	s := httptest.NewUnstartedServer(serve)
	if withTLS {
		s.StartTLS()
		o.CAs = x509.NewCertPool()
		o.CAs.AddCert(s.Certificate())
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	if o.Keychain == nil {
		o.Keychain = noKeys{}
	}
	c := registry.New(o)
	registry.DialAll(c, s.Listener.Addr().String())
	t.Cleanup(c.Close)
	return c
}

func reference(t *testing.T, ref string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The certificate of httptest is for example.com.
const host = "example.com"

func TestPlainHTTPOnlyWhereItMay(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		host     string
		insecure []string
		may      bool
	}{
		{"127.0.0.1:5000", nil, true},
		{"127.9.9.9:5000", nil, true},
		{"localhost:5000", nil, true},
		{"[::1]:5000", nil, true},
		{"10.0.0.1:5000", nil, false},
		{"192.168.1.1", nil, false},
		{"registry.local:5000", nil, false},
		{host, nil, false},
		{"10.0.0.1:5000", []string{"10.0.0.1:5000"}, true},
		{"10.0.0.1:5000", []string{"10.0.0.1"}, true},
		{"10.0.0.1:5000", []string{"10.0.0.1:5001", "0.0.0.1"}, false},
		{host + ":80", []string{host}, true},
	} {
		t.Run(tc.host+" "+strings.Join(tc.insecure, ","), func(t *testing.T) {
			t.Parallel()
			var plain atomic.Int64
			c := world(t, false, registry.Options{Insecure: tc.insecure}, func(http.ResponseWriter, *http.Request) { plain.Add(1) })
			_, err := c.Open(t.Context(), reference(t, tc.host+"/a:1"))
			if tc.may {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e := core.AsError(err)
			if err == nil || e.Code != core.ReasonImagePullFailed || plain.Load() != 0 {
				t.Errorf("it spoke without TLS: %v", err)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	blob := v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}, Size: 5}
	for to, works := range map[string]bool{
		"https://example.com/x":       true,
		"http://example.com/x":        false, // out of TLS
		"https://127.0.0.1/x":         false,
		"https://169.254.169.254/x":   false,
		"https://[fe80::1]/x":         false,
		"https://10.1.2.3/x":          false,
		"https://localhost/x":         false,
		"https://0.0.0.0/x":           false,
		"https://[::ffff:10.0.0.1]/x": false,
		"https://example.com/again":   false, // for ever
	} {
		t.Run(to, func(t *testing.T) {
			t.Parallel()
			c := world(t, true, registry.Options{}, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/x" && (r.Host != host || r.TLS == nil):
					t.Errorf("it followed to %s", r.Host)
				case r.URL.Path == "/x":
					_, _ = io.WriteString(w, "hello")
				case strings.Contains(r.URL.Path, "/blobs/"), r.URL.Path == "/again":
					http.Redirect(w, r, to, http.StatusFound)
				}
			})
			repo, err := c.Open(t.Context(), reference(t, host+"/a:1"))
			if err != nil {
				t.Fatal(err)
			}
			body, _, err := repo.Blob(t.Context(), blob, 0)
			if err == nil {
				_ = body.Close()
			}
			if works != (err == nil) {
				t.Errorf("got %v", err)
			}
			if e := core.AsError(err); err != nil && (e.Kind != core.KindInvalid || e.Code != core.ReasonImagePullFailed) {
				t.Errorf("got %s, %s: %v", e.Kind, e.Code, err)
			}
		})
	}
}

// A registry that cannot do parts gives the whole; one that gives another part
// than it was asked for is asked for the whole.
func TestParts(t *testing.T) {
	t.Parallel()
	const text = "0123456789"
	blob := v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}, Size: int64(len(text))}
	for what, tc := range map[string]struct {
		part  func(w http.ResponseWriter)
		start int64
		want  string
	}{
		"the part": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 4-9/10")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, text[4:])
		}, 4, text[4:]},
		"the whole": {func(w http.ResponseWriter) { _, _ = io.WriteString(w, text) }, 0, text},
		"another": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 5-9/10")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, text[5:])
		}, 0, text},
		"of another size": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 4-9/11")
			w.WriteHeader(http.StatusPartialContent)
		}, 0, text},
		"nonsense": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "?")
			w.WriteHeader(http.StatusPartialContent)
		}, 0, text},
		"out of range": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) }, 0, text},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := world(t, true, registry.Options{}, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Header.Get("Range") == "bytes=4-":
					tc.part(w)
				case strings.Contains(r.URL.Path, "/blobs/"):
					_, _ = io.WriteString(w, text)
				}
			})
			repo, err := c.Open(t.Context(), reference(t, host+"/a:1"))
			if err != nil {
				t.Fatal(err)
			}
			body, start, err := repo.Blob(t.Context(), blob, 4)
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			got, err := io.ReadAll(body)
			if err != nil || start != tc.start || string(got) != tc.want {
				t.Errorf("got %q from %d on, %v; want %q from %d on", got, start, err, tc.want, tc.start)
			}
		})
	}
}

// Registries that do not tell the digest are asked for the manifest.
func TestHeadWithoutADigest(t *testing.T) {
	t.Parallel()
	const manifest = `{"schemaVersion":2}`
	c := world(t, true, registry.Options{}, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json; charset=utf-8")
		if r.Method == http.MethodHead {
			w.Header().Set("Docker-Content-Digest", "nonsense")
			return
		}
		_, _ = io.WriteString(w, manifest)
	})
	repo, err := c.Open(t.Context(), reference(t, host+"/a:1"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := repo.Head(t.Context(), "1")
	if err != nil || d.Size != int64(len(manifest)) || d.MediaType != "application/vnd.oci.image.manifest.v1+json" {
		t.Errorf("got %+v, %v", d, err)
	}
}

// Tokens come from where the registry says, for the user that is known there.
func TestTokens(t *testing.T) {
	t.Parallel()
	var asked atomic.Value
	c := world(t, true, registry.Options{Keychain: keys{"bob", "pass"}}, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			user, password, _ := r.BasicAuth()
			asked.Store(user + ":" + password + " " + r.URL.Query().Get("scope"))
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"token":"t0ken"}`)
		case r.Header.Get("Authorization") != "Bearer t0ken":
			w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+host+`/token",service="s"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			_, _ = io.WriteString(w, "{}")
		}
	})
	repo, err := c.Open(t.Context(), reference(t, host+"/shop/a:1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := repo.Manifest(t.Context(), v1.Descriptor{}, "1"); err != nil {
		t.Error(err)
	}
	if got := asked.Load(); got != "bob:pass repository:shop/a:pull" {
		t.Errorf("the token was asked for with %q", got)
	}
}

type keys struct{ user, password string }

func (k keys) Credentials(context.Context, string) (core.RegistryCredentials, error) {
	if k.user == "" {
		return core.RegistryCredentials{}, errors.New("the helper says no")
	}
	return core.RegistryCredentials{User: k.user, Password: k.password}, nil
}

func TestCredentialsThatCannotBeHad(t *testing.T) {
	t.Parallel()
	c := world(t, true, registry.Options{Keychain: keys{}}, func(http.ResponseWriter, *http.Request) { t.Error("it was asked all the same") })
	_, err := c.Open(t.Context(), reference(t, host+"/a:1"))
	if e := core.AsError(err); e.Kind != core.KindInvalid || e.Code != core.ReasonImagePullFailed || !strings.Contains(e.Message, "config.json") {
		t.Errorf("got %v", err)
	}
}

// What docker login keeps is found, be it in the file or with a helper.
func TestDockerConfig(t *testing.T) {
	dir := t.TempDir()
	helper := "#!/bin/sh\nread host\n[ \"$host\" = helped.example ] && echo '{\"Username\":\"eve\",\"Secret\":\"helped\"}' || { echo 'credentials not found in native keychain'; exit 1; }\n"
	for file, text := range map[string]string{
		"config.json":                  `{"auths":{"plain.example":{"auth":"Ym9iOnBhc3M="}},"credHelpers":{"helped.example":"dayflytest","nothing.example":"dayflytest"}}`,
		"docker-credential-dayflytest": helper,
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("HOME", t.TempDir())
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for repository, want := range map[string]core.RegistryCredentials{
		"plain.example/shop/a":  {User: "bob", Password: "pass"},
		"helped.example/shop/a": {User: "eve", Password: "helped"},
		"nothing.example/a":     {},
		"other.example/a":       {},
	} {
		got, err := registry.DockerConfig{}.Credentials(t.Context(), repository)
		got.Basic = "" // the same in other words
		if err != nil || got != want {
			t.Errorf("%s: %#v, %v; want %#v", repository, got.User+":"+got.Password, err, want.User+":"+want.Password)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (registry.DockerConfig{}).Credentials(t.Context(), "plain.example/a"); err == nil {
		t.Error("a broken file was taken for none")
	}
	if text := (core.RegistryCredentials{User: "bob", Password: "pass"}).String(); strings.Contains(text, "pass") {
		t.Errorf("printed, it shows the password: %s", text)
	}
}
