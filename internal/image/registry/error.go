package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strconv"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/dayfly-io/dayfly/internal/core"
)

var errStalled = errors.New("it sent nothing for too long")

// failed makes the error of a pull: what failed of what, and what to do.
func failed(kind core.Kind, err error, message string) *core.Error {
	return &core.Error{Kind: kind, Code: core.ReasonImagePullFailed, Message: message, Err: err}
}

// explain makes an error of the transport one that a person can do something
// about. what is the tag or digest that was asked for, "" for the handshake.
func explain(ctx context.Context, repo name.Repository, what string, err error, known bool) error {
	if _, ok := errors.AsType[*core.Error](err); ok {
		return err
	}
	registry, image := repo.RegistryStr(), shown(repo, what)
	// Of a registry on a loopback address both ways were tried, and err has
	// what became of each.
	if refused, ok := errors.AsType[*transport.Error](err); ok && !isTLS(err) {
		return explainStatus(refused, registry, image, known)
	}
	cause := context.Cause(ctx)
	switch {
	case cause != nil && !errors.Is(cause, errStalled):
		return cause
	case isStall(cause, err):
		return failed(core.KindUnavailable, err, "the registry "+registry+" sent nothing for too long: try again later")
	case errors.Is(err, errPlain) && !isTLS(err):
		return failed(core.KindInvalid, err, "the registry "+registry+
			" does not speak TLS: give it a certificate, or start the server with --registry-insecure "+registry)
	case isTLS(err):
		return failed(core.KindInvalid, err, "the certificate of the registry "+registry+
			" cannot be trusted: name the authority that signed it with --registry-ca, or in SSL_CERT_FILE")
	case errors.Is(err, errInside), errors.Is(err, errRedirects):
		return failed(core.KindInvalid, err, "the registry "+registry+" cannot be followed for "+image+": pull the image from where it really is")
	}
	return failed(core.KindUnavailable, err, "the registry "+registry+" cannot be reached for "+image+": see that it runs and its name is right")
}

// explainStatus explains an answer that is not the one that was wanted.
func explainStatus(err *transport.Error, registry, image string, known bool) error {
	switch err.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		hint := "log in with docker login " + registry + " as the user that the server runs as"
		if known {
			hint = "the credentials it has are not accepted; " + hint + " again"
		}
		return failed(core.KindInvalid, err, "the registry "+registry+" does not let this server read "+image+
			", or has no such image (unauthenticated): "+hint)
	case http.StatusNotFound:
		return &core.Error{
			Kind: core.KindNotFound, Code: core.ReasonImageNotFound, Err: err,
			Message: "the registry " + registry + " has no image " + image + ": see that name and tag are right, and that it was pushed",
		}
	case http.StatusTooManyRequests:
		e := failed(core.KindUnavailable, err, "the registry "+registry+" lets this server ask no more for now: log in for a higher limit, or try again later")
		e.RetryAfter = 60
		return e
	}
	return failed(core.KindUnavailable, err, "the registry "+registry+" answered "+strconv.Itoa(err.StatusCode)+" to the question for "+image+": try again later")
}

// isStall reports whether one of our limits of time ran out.
func isStall(cause, err error) bool {
	if errors.Is(cause, errStalled) || errors.Is(err, errStalled) {
		return true
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

func isTLS(err error) bool {
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	return verify || authority || host
}

// shown is an image as people write it.
func shown(repo name.Repository, what string) string {
	switch {
	case what == "":
		return repo.Name()
	case len(what) > len("sha256:") && what[:len("sha256:")] == "sha256:":
		return repo.Name() + "@" + what
	}
	return repo.Name() + ":" + what
}
