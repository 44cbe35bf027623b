package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/dayfly-io/dayfly/api"
)

// DefaultURL is where a server listens that was told nothing else.
const DefaultURL = "http://127.0.0.1:8080"

// maxDocument is how many bytes of a JSON answer are read at most.
const maxDocument = 64 << 20

// Options change how a [Client] works. The zero value is good.
type Options struct {
	// HTTP sends the requests; nil means a client that follows no redirect to
	// another host and has no limit of time.
	HTTP *http.Client
	// UserAgent names the program that calls; "" means dayfly-go.
	UserAgent string
}

// Client calls one Dayfly server.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
	agent string
}

// New makes a client of the server at the URL, which may leave out http://
// and may have a path under which a proxy keeps the server; "" means
// [DefaultURL]. token is sent with every request unless it is empty.
func New(serverURL, token string, opt Options) (*Client, error) {
	if serverURL == "" {
		serverURL = DefaultURL
	}
	if !strings.Contains(serverURL, "://") {
		serverURL = "http://" + serverURL
	}
	u, err := url.Parse(serverURL)
	if err != nil {
		return nil, fmt.Errorf("%q is not the URL of a server: %w", serverURL, err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%q is not the URL of a server: write it as %s", serverURL, DefaultURL)
	}
	u.Path, u.RawPath, u.Fragment = strings.TrimRight(u.Path, "/"), "", ""
	c := &Client{base: u, token: token, http: opt.HTTP, agent: opt.UserAgent}
	if c.http == nil {
		t := http.DefaultTransport.(*http.Transport).Clone() //nolint:errcheck,forcetypeassert // it is one
		t.MaxIdleConnsPerHost = 64
		t.DisableCompression = true
		c.http = &http.Client{Transport: t, CheckRedirect: sameHost}
	}
	if c.agent == "" {
		c.agent = "dayfly-go"
	}
	return c, nil
}

// sameHost keeps the token from being sent to a host that a redirect names.
func sameHost(r *http.Request, via []*http.Request) error {
	if r.URL.Host != via[0].URL.Host || len(via) > 5 {
		return http.ErrUseLastResponse
	}
	return nil
}

// URL gives the server's URL, without a slash at its end.
func (c *Client) URL() string { return c.base.String() }

// Close closes connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// request is one request to the API.
type request struct {
	method string
	path   string // escaped, from /
	query  url.Values
	header http.Header
	body   io.Reader
	length int64 // of body, -1 when it is not known
}

// path joins parts to an escaped path.
func path(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(p))
	}
	return b.String()
}

// send sends a request and gives its answer, whatever the status.
func (c *Client) send(ctx context.Context, q request) (*http.Response, error) {
	target := c.base.String() + q.path
	if len(q.query) > 0 {
		target += "?" + q.query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, q.method, target, q.body)
	if err != nil {
		return nil, fmt.Errorf("make a request to %s: %w", target, err)
	}
	if q.length != 0 {
		r.ContentLength = q.length
	}
	if q.header != nil {
		r.Header = q.header
	}
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", c.agent)
	}
	if c.token != "" && r.Header.Get("Authorization") == "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, c.transportError(ctx, err)
	}
	return answer, nil
}

// call sends in as JSON, unless it is nil, and reads the answer into out,
// unless that is nil.
func (c *Client) call(ctx context.Context, q request, in, out any) error {
	if q.header == nil {
		q.header = http.Header{}
	}
	q.header.Set("Accept", "application/json, "+api.ProblemType)
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the body of %s %s: %w", q.method, q.path, err)
		}
		q.header.Set("Content-Type", "application/json")
		q.body, q.length = bytes.NewReader(b), int64(len(b))
	}
	answer, err := c.send(ctx, q)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // it was read to its end or is of no more use
	if answer.StatusCode >= http.StatusMultipleChoices {
		return c.refusal(answer)
	}
	if out == nil {
		return nil
	}
	if !isType(answer, "application/json") {
		return c.notDayfly(answer)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxDocument)).Decode(out); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("read the answer to %s %s: %w", q.method, q.path, ctx.Err())
		}
		return fmt.Errorf("read the answer to %s %s: %w", q.method, q.path, err)
	}
	return nil
}

// isType reports whether the answer has the media type.
func isType(answer *http.Response, want string) bool {
	got, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	return err == nil && got == want
}
