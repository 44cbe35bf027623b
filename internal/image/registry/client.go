package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Options say how registries are spoken to. The zero value is good.
type Options struct {
	// Keychain has the credentials; nil means [DockerConfig].
	Keychain Keychain
	// Insecure are registries, as host or host:port, that may be spoken to
	// without TLS. Those on loopback addresses may be in any case.
	Insecure []string
	// CAs are the authorities that sign certificates; nil means the system's,
	// or those in SSL_CERT_FILE and SSL_CERT_DIR.
	CAs *x509.CertPool
	// Stall is how long a registry may send nothing; 0 means 30 s.
	Stall time.Duration
	// UserAgent names the program.
	UserAgent string
}

// Client speaks to registries.
type Client struct {
	opts      Options
	transport *http.Transport
}

// New makes a client; Close lets go of its connections.
func New(o Options) *Client {
	o.Stall = cmp.Or(o.Stall, 30*time.Second)
	o.UserAgent = cmp.Or(o.UserAgent, "dayfly")
	if o.Keychain == nil {
		o.Keychain = DockerConfig{}
	}
	dialer := &net.Dialer{Timeout: min(o.Stall, 10*time.Second), KeepAlive: 15 * time.Second}
	return &Client{opts: o, transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: o.CAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   min(o.Stall, 10*time.Second),
		ResponseHeaderTimeout: o.Stall,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   4,
		DisableCompression:    true,
		// HTTP/2 would send all blobs over one connection, and its window.
		ForceAttemptHTTP2: false,
	}}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Repository is a repository of a registry that has let us in.
type Repository struct {
	client *Client
	name   name.Repository
	http   *http.Client
	known  bool // it has credentials
}

// Open speaks to the registry of a reference and authenticates to read its
// repository.
func (c *Client) Open(ctx context.Context, ref name.Reference) (*Repository, error) {
	repo := ref.Context()
	insecure := c.insecure(repo.RegistryStr())
	if insecure {
		var err error
		if repo, err = name.NewRepository(repo.Name(), name.Insecure); err != nil {
			return nil, core.Invalid("the image name %q is not one: %v", ref, err)
		}
	}
	credentials, err := c.opts.Keychain.Credentials(ctx, repo.Name())
	if err != nil {
		return nil, &core.Error{
			Kind: core.KindInvalid, Code: core.ReasonImagePullFailed, Err: err,
			Message: "the credentials for " + repo.RegistryStr() + " cannot be had: mend the server's docker configuration (config.json in DOCKER_CONFIG or ~/.docker)",
		}
	}
	known := credentials != core.RegistryCredentials{}
	guarded := &guard{inner: c.transport, insecure: insecure, agent: c.opts.UserAgent}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*c.opts.Stall, errStalled)
	defer cancel()
	t, err := transport.NewWithContext(ctx, repo.Registry, authenticator(credentials), guarded, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, explain(ctx, repo, "", err, known)
	}
	return &Repository{client: c, name: repo, known: known, http: &http.Client{Transport: t, CheckRedirect: checkRedirect}}, nil
}

// insecure reports whether a registry may be spoken to without TLS.
func (c *Client) insecure(registry string) bool {
	host := hostOf(registry)
	return isLoopback(host) || slices.Contains(c.opts.Insecure, registry) || slices.Contains(c.opts.Insecure, host)
}

func hostOf(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// isInside reports whether a host is named by an address that only means
// something inside of a network. Names are not looked up.
func isInside(host string) bool {
	if isLoopback(host) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	ip = ip.Unmap()
	return err == nil && (ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified())
}

// guard holds requests to what the package promises.
type guard struct {
	inner    http.RoundTripper
	insecure bool
	agent    string
}

var errPlain = errors.New("it was asked for without TLS, which only registries on loopback addresses and those of --registry-insecure may be")

func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !g.insecure {
		return nil, errPlain
	}
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", g.agent)
	return g.inner.RoundTrip(r) //nolint:wrapcheck // explain does
}

var (
	errRedirects = errors.New("it redirects more than five times")
	errInside    = errors.New("it redirects to an address inside of a network")
)

// maxRedirects is how often a registry may send elsewhere for one blob.
const maxRedirects = 5

func checkRedirect(r *http.Request, via []*http.Request) error {
	from := via[0].URL
	switch {
	case len(via) > maxRedirects:
		return errRedirects
	case from.Scheme == "https" && r.URL.Scheme != "https":
		return errPlain
	case isInside(r.URL.Hostname()) && !isInside(from.Hostname()):
		return errInside
	}
	return nil
}
