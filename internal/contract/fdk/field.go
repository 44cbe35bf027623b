package fdk

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

// The fields of Fn (docs: fn/develop/fn-format.md).
const (
	callID      = "Fn-Call-Id"
	deadline    = "Fn-Deadline"
	intent      = "Fn-Intent"
	httpMethod  = "Fn-Http-Method"
	httpURL     = "Fn-Http-Request-Url"
	httpStatus  = "Fn-Http-Status"
	httpField   = "Fn-Http-H-"
	contentType = "Content-Type"
)

var intentHTTP = []string{"httprequest"}

// prepare fills in the request that the process gets.
func (x *exchange) prepare(call *core.Call) {
	r, header := call.Request, x.req.Header
	x.trigger = call.Run.Trigger == core.TriggerHTTP
	x.req = core.Request{
		Method: http.MethodPost, Path: "/call", Host: "localhost", Scheme: r.Scheme, Remote: r.Remote,
		Header: header, Body: r.Body, Length: r.Length,
	}
	connection := r.Header["Connection"]
	for name, values := range r.Header {
		if hopByHop(name) || connection != nil && listed(connection, name) {
			continue
		}
		switch {
		case !x.trigger:
			if !own(name) && name != "Expect" { // which was met when the body was asked for
				header[name] = values
			}
		case name == contentType:
			header[name] = values
		default:
			header[prefixed(name)] = values
		}
	}
	x.set(0, callID, call.Run.ID.String())
	if !call.Deadline.IsZero() {
		x.set(1, deadline, deadlineOf(call))
	}
	if x.trigger {
		header[intent] = intentHTTP
		x.set(2, httpMethod, r.Method)
		x.set(3, httpURL, urlOf(r))
	}
}

func (x *exchange) set(i int, name, value string) {
	x.own[i] = value
	x.req.Header[name] = x.own[i : i+1 : i+1]
}

// own reports whether a field is one that the caller of a plain invocation
// cannot set, also in the spelling with underscores, which some servers take
// for the same.
func own(name string) bool {
	switch len(name) {
	case len(callID):
		return same(name, callID)
	case len(deadline):
		return same(name, deadline)
	}
	return false
}

func same(name, own string) bool {
	return strings.EqualFold(strings.ReplaceAll(name, "_", "-"), own)
}

// briefTimeout is up to where a deadline is rounded up and not down.
const briefTimeout = 10 * time.Second

// deadlineOf gives the deadline in whole seconds.
func deadlineOf(call *core.Call) string {
	at := call.Deadline
	if call.Definition.Version.Spec.Timeout < briefTimeout {
		at = at.Add(time.Second - 1)
	}
	return at.UTC().Format(time.RFC3339)
}

// urlOf gives the URL that the caller has called.
func urlOf(r *core.Request) string {
	var b strings.Builder
	scheme := r.Scheme
	if scheme == "" {
		scheme = "http"
	}
	path := r.FullPath
	if path == "" {
		path = r.Path
	}
	b.Grow(len(scheme) + len("://") + len(r.Host) + len(path) + 1 + len(r.RawQuery))
	b.WriteString(scheme)
	b.WriteString("://")
	b.WriteString(r.Host)
	b.WriteString(path)
	if r.RawQuery != "" {
		b.WriteByte('?')
		b.WriteString(r.RawQuery)
	}
	return b.String()
}

// answered gives the status that the function answers the caller with, or what
// is wrong with it.
func answered(header core.Header) (status int, invalid string) {
	text := header.Get(httpStatus)
	if text == "" {
		return http.StatusOK, ""
	}
	status, err := strconv.Atoi(text)
	if err != nil || status < http.StatusOK || status > 999 {
		return 0, fmt.Sprintf("its %s is %.40q, which is no final status", httpStatus, text)
	}
	return status, ""
}

// passTrigger gives the caller at a function's URL what is for them.
func passTrigger(into, from core.Header, empty bool) {
	for name, values := range from {
		switch {
		case name == contentType:
		case name == "Content-Length": // of the body as it comes
			if empty {
				continue
			}
		case strings.HasPrefix(name, httpField):
			name = name[len(httpField):]
			if name == "" || name == "Content-Length" || name == "Dayfly-Run-Id" || hopByHop(name) {
				continue
			}
		default:
			continue
		}
		into[name] = append(into[name], values...)
	}
}

// passAll gives the caller of a plain invocation everything.
func passAll(into, from core.Header) {
	for name, values := range from {
		into[name] = append(into[name], values...)
	}
}

// hopByHop reports whether a field is between neighbours only (RFC 9110,
// 7.6.1).
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return strings.HasPrefix(name, "Proxy-")
}

// listed reports whether lists of tokens have one, without regard to case.
func listed(lists []string, token string) bool {
	for _, list := range lists {
		for part := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// names are those that have been prefixed, since it is always the same ones.
// Callers choose them, so that there is a bound.
var names struct {
	known sync.Map // name to prefixed name
	count atomic.Int32
}

const (
	maxNames = 256
	maxName  = 64
)

// prefixed gives Fn-Http-H-NAME.
func prefixed(name string) string {
	if v, ok := names.known.Load(name); ok {
		s, _ := v.(string)
		return s
	}
	s := httpField + name
	if len(name) <= maxName && names.count.Add(1) <= maxNames {
		names.known.Store(strings.Clone(name), s)
	}
	return s
}
