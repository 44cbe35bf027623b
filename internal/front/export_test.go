package front

import (
	"net/http"
	"net/url"
)

// Parse reads a head as a request, nil for one that is not plain.
func Parse(text, prefix string) (*http.Request, int64) {
	h := head{header: http.Header{}}
	if !h.parse(text, prefix) {
		return nil, 0
	}
	return &http.Request{
		Method: h.method, RequestURI: h.target, URL: &url.URL{Path: h.path, RawQuery: h.query}, Proto: "HTTP/1.1",
		Host: h.host, Header: h.header, Close: h.close,
	}, h.length
}
