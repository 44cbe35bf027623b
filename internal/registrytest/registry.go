// Package registrytest runs a real registry for tests: that of the Debian
// package docker-registry, on a free port of a loopback address, with TLS and
// passwords if need be. It also puts images into it.
package registrytest

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// User and Password open a registry with Options.Password.
const (
	User     = "alice"
	Password = "secret"
	// htpasswd is a line as htpasswd -nbB writes it for them.
	htpasswd = "alice:$2y$05$Eu3/fv5bEzgVBK6MwZFBS.T2Y/ig8U5KdsqGqRQ/pbc9vTjXFMKaO\n"
)

// Options say what kind of registry is wanted.
type Options struct {
	TLS      bool // its certificate is signed by an authority that nobody knows
	Password bool // it asks for User and Password
}

// Registry is a registry that runs as long as its test.
type Registry struct {
	// Host is its address, host:port.
	Host string
	// CA is a file with the authority (PEM), "" without TLS.
	CA string

	opts Options
	pool *x509.CertPool
}

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

// Start starts a registry and ends it with the test.
func Start(t testing.TB, o Options) *Registry {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Fatalf("the program docker-registry is missing: install the package of that name (%v)", err)
	}
	dir := t.TempDir()
	r := &Registry{opts: o}
	config := fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp:\n  addr: 127.0.0.1:0\n  secret: x\n", filepath.Join(dir, "data"))
	if o.TLS {
		r.pool = x509.NewCertPool()
		cert, key, ca := certificate(t)
		r.CA = write(t, dir, "ca.pem", ca)
		r.pool.AppendCertsFromPEM(ca)
		config += fmt.Sprintf("  tls: {certificate: %q, key: %q}\n", write(t, dir, "cert.pem", cert), write(t, dir, "key.pem", key))
	}
	if o.Password {
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", write(t, dir, "htpasswd", []byte(htpasswd)))
	}
	cmd := exec.CommandContext(t.Context(), program, "serve", write(t, dir, "config.yml", []byte(config)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	})
	r.Host = r.await(t, out, read)
	return r
}

// await reads the registry's log for its address, and then so that it is not
// held up.
func (r *Registry) await(t testing.TB, out io.Reader, read chan struct{}) string {
	t.Helper()
	lines := bufio.NewReader(out)
	var said bytes.Buffer
	for {
		line, err := lines.ReadString('\n')
		said.WriteString(line)
		if m := listening.FindStringSubmatch(line); m != nil {
			go func() {
				defer close(read)
				_, _ = io.Copy(io.Discard, lines)
			}()
			return m[1]
		}
		if err != nil {
			close(read)
			t.Fatalf("the registry did not start: %s", &said)
		}
	}
}

func write(t testing.TB, dir, file string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certificate makes a certificate for 127.0.0.1 and the authority that signs
// it.
func certificate(t testing.TB) (cert, key, ca []byte) {
	t.Helper()
	template := func(serial int64, cn string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), BasicConstraintsValid: true,
		}
	}
	root := template(1, "dayfly test authority")
	root.IsCA, root.KeyUsage = true, x509.KeyUsageCertSign
	leaf := template(2, "registry")
	leaf.IPAddresses, leaf.ExtKeyUsage = []net.IP{net.IPv4(127, 0, 0, 1)}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, &leafKey.PublicKey, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return block("CERTIFICATE", leafDER), block("EC PRIVATE KEY", keyDER), block("CERTIFICATE", rootDER)
}

// CAs gives the authority that signed its certificate, nil without TLS.
func (r *Registry) CAs() *x509.CertPool { return r.pool }

// Transport speaks to it.
func (r *Registry) Transport() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.pool, MinVersion: tls.VersionTLS12}}
}

// DockerConfig writes a docker configuration with the password and gives its
// directory, for DOCKER_CONFIG.
func (r *Registry) DockerConfig(t testing.TB, password string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "config.json", fmt.Appendf(nil, `{"auths":{%q:{"username":%q,"password":%q}}}`, r.Host, User, password))
	return dir
}

// Push puts the image, or index of images, of a tar in OCI layout into the
// registry, as repository:tag, and gives the name to pull it by.
func (r *Registry) Push(t testing.TB, ociTar []byte, repositoryAndTag string) string {
	t.Helper()
	dir := t.TempDir()
	extract(t, ociTar, dir)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	ref := r.Host + "/" + repositoryAndTag
	r.put(t, index, manifest.Manifests[len(manifest.Manifests)-1], ref)
	return ref
}

func (r *Registry) put(t testing.TB, index v1.ImageIndex, d v1.Descriptor, ref string) {
	t.Helper()
	var opts []name.Option
	if !r.opts.TLS {
		opts = append(opts, name.Insecure)
	}
	tag, err := name.ParseReference(ref, opts...)
	if err != nil {
		t.Fatal(err)
	}
	transport := r.Transport()
	defer transport.CloseIdleConnections()
	with := []remote.Option{remote.WithTransport(transport), remote.WithContext(t.Context())}
	if r.opts.Password {
		with = append(with, remote.WithAuth(&authn.Basic{Username: User, Password: Password}))
	}
	if d.MediaType.IsIndex() {
		inner, findErr := index.ImageIndex(d.Digest)
		if err = findErr; err == nil {
			err = remote.WriteIndex(tag, inner, with...)
		}
	} else {
		image, findErr := index.Image(d.Digest)
		if err = findErr; err == nil {
			err = remote.Write(tag, image, with...)
		}
	}
	if err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
}

// extract unpacks a tar that a test has written.
func extract(t testing.TB, data []byte, dir string) {
	t.Helper()
	in := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) {
			continue
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Dir(path), filepath.Base(path), content)
	}
}
