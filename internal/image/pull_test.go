package image_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image"
	"github.com/dayfly-io/dayfly/internal/image/registry"
	"github.com/dayfly-io/dayfly/internal/registrytest"
)

// keys are credentials that a test gives.
type keys struct{ user, password string }

func (k keys) Credentials(context.Context, string) (core.RegistryCredentials, error) {
	return core.RegistryCredentials{User: k.user, Password: k.password}, nil
}

// puller opens a store whose registries are as the options say.
func puller(t testing.TB, o registry.Options) (*image.Store, string) {
	t.Helper()
	if o.Keychain == nil {
		o.Keychain = keys{}
	}
	if o.Stall == 0 {
		o.Stall = 20 * time.Second
	}
	s, dir := open(t, image.Options{Registries: o})
	image.SetPause(s, time.Millisecond)
	return s, dir
}

// noise is text that cannot be compressed, the same for a seed.
func noise(seed, n int) string {
	b := make([]byte, n)
	x := uint64(seed)*2654435761 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return string(b)
}

func gzipLayer(t testing.TB, entries ...entry) layer {
	t.Helper()
	plain := tarOf(t, entries...)
	return layer{gzipped(t, plain), ociLayer + "+gzip", plain}
}

func pull(t testing.TB, s *image.Store, ref string) core.Image {
	t.Helper()
	got, err := s.Pull(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func wantCode(t *testing.T, err error, kind core.Kind, code core.Code, words ...string) {
	t.Helper()
	e := core.AsError(err)
	if err == nil || e.Kind != kind || e.Code != code {
		t.Errorf("got %v (%s, %s), want %s, %s", err, e.Kind, e.Code, kind, code)
		return
	}
	for _, w := range words {
		if !strings.Contains(e.Message, w) {
			t.Errorf("the message %q does not say %q", e.Message, w)
		}
	}
}

func TestPullOverTLSWithAPassword(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Options{TLS: true, Password: true})
	ref := r.Push(t, simple(t, "x", gzipLayer(t, entry{name: "hello", body: "hi"})), "shop/hello:1")
	good := keys{registrytest.User, registrytest.Password}
	s, dir := puller(t, registry.Options{CAs: r.CAs(), Keychain: good})
	digest, err := s.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(dirs(t, dir, "layers")); n != 0 {
		t.Errorf("Resolve has downloaded %d layers", n)
	}
	got := pull(t, s, ref)
	if got.Digest != digest || got.Source != r.Host+"/shop/hello" || len(got.Names) != 1 || got.Names[0] != ref {
		t.Errorf("pulled %+v, and it was resolved to %s", got, digest)
	}
	root, err := s.Rootfs(t.Context(), got.Digest)
	if err != nil || read(t, root.Layers[0], "hello") != "hi" {
		t.Errorf("the layer is %v, %v", root, err)
	}
	if left := dirs(t, dir, "spool"); len(left) != 0 {
		t.Errorf("the spool has %v", left)
	}

	for name, tc := range map[string]struct {
		o     registry.Options
		ref   string
		kind  core.Kind
		code  core.Code
		words []string
	}{
		"wrong password":    {registry.Options{CAs: r.CAs(), Keychain: keys{registrytest.User, "wrong"}}, ref, core.KindInvalid, core.ReasonImagePullFailed, []string{"unauthenticated", "docker login " + r.Host, "not accepted"}},
		"no password":       {registry.Options{CAs: r.CAs()}, ref, core.KindInvalid, core.ReasonImagePullFailed, []string{"unauthenticated", "docker login " + r.Host}},
		"unknown image":     {registry.Options{CAs: r.CAs(), Keychain: good}, r.Host + "/shop/other:1", core.KindNotFound, core.ReasonImageNotFound, []string{"shop/other:1", "pushed"}},
		"unknown tag":       {registry.Options{CAs: r.CAs(), Keychain: good}, r.Host + "/shop/hello:2", core.KindNotFound, core.ReasonImageNotFound, []string{"shop/hello:2"}},
		"unknown digest":    {registry.Options{CAs: r.CAs(), Keychain: good}, r.Host + "/shop/hello@sha256:" + strings.Repeat("ab", 32), core.KindNotFound, core.ReasonImageNotFound, []string{"shop/hello@sha256:abab"}},
		"unknown authority": {registry.Options{CAs: x509.NewCertPool(), Keychain: good}, ref, core.KindInvalid, core.ReasonImagePullFailed, []string{"certificate", "--registry-ca"}},
		"no name":           {registry.Options{}, "a b", core.KindInvalid, core.CodeInvalid, []string{"a b"}},
		"only a digest":     {registry.Options{}, "sha256:" + strings.Repeat("ab", 32), core.KindNotFound, core.ReasonImageNotFound, []string{"repository@"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dir := puller(t, tc.o)
			_, err := s.Pull(t.Context(), tc.ref, nil)
			wantCode(t, err, tc.kind, tc.code, tc.words...)
			if err != nil && strings.Contains(err.Error(), registrytest.Password) {
				t.Errorf("the error tells the password: %v", err)
			}
			_, err = s.Resolve(t.Context(), tc.ref)
			wantCode(t, err, tc.kind, tc.code, tc.words...)
			if images, err := s.Images(t.Context()); err != nil || len(images) != 0 || len(dirs(t, dir, "layers")) != 0 {
				t.Errorf("it left %v, %v", images, err)
			}
		})
	}
}

func TestPullFromNobody(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	s, _ := puller(t, registry.Options{})
	_, err = s.Pull(t.Context(), host+"/shop/hello:1", nil)
	wantCode(t, err, core.KindUnavailable, core.ReasonImagePullFailed, host, "cannot be reached")
}

// Plain HTTP is for loopback addresses; package registry has the others.
func TestPlainHTTPIsForLoopback(t *testing.T) {
	t.Parallel()
	behind := registrytest.Start(t, registrytest.Options{})
	ref := behind.Push(t, simple(t, "x", gzipLayer(t, entry{name: "a"})), "a:1")
	s, _ := puller(t, registry.Options{})
	for _, host := range []string{"127.0.0.1", "localhost"} {
		pull(t, s, strings.Replace(ref, "127.0.0.1", host, 1))
	}
}

func TestPlatforms(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Options{})
	here, there := gzipLayer(t, entry{name: "here"}), gzipLayer(t, entry{name: "there"})
	l := &layout{t: t}
	platform := func(d object, os, arch string) object {
		d["platform"] = object{"os": os, "architecture": arch}
		return d
	}
	ours := platform(l.image(config(runtime.GOARCH, here), here), "linux", runtime.GOARCH)
	other := platform(l.image(config("s390x", there), there), "linux", "s390x")
	note := platform(l.image(config("unknown", there), there), "unknown", "unknown")
	l.name(l.json(object{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{other, note, ours}}, ociIndex), "many")
	many := r.Push(t, l.tar(), "many:1")

	l = &layout{t: t}
	l.name(l.json(object{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{platform(l.image(config("s390x", there), there), "linux", "s390x")}}, ociIndex), "foreign")
	foreignIndex := r.Push(t, l.tar(), "foreign:index")
	l = &layout{t: t}
	l.name(l.image(config("s390x", there), there), "foreign")
	foreign := r.Push(t, l.tar(), "foreign:plain")

	s, dir := puller(t, registry.Options{})
	digest, err := s.Resolve(t.Context(), many)
	if err != nil || digest != ours["digest"] {
		t.Errorf("resolved to %s, %v; want %s", digest, err, ours["digest"])
	}
	if got := pull(t, s, many); got.Digest != ours["digest"] {
		t.Errorf("pulled %s, want %s", got.Digest, ours["digest"])
	}
	if n := len(dirs(t, dir, "layers")); n != 1 {
		t.Errorf("%d layers were unpacked, want that of this platform", n)
	}
	for _, ref := range []string{foreign, foreignIndex} {
		_, err := s.Pull(t.Context(), ref, nil)
		wantCode(t, err, core.KindInvalid, core.ReasonImageUnsupported, "linux/s390x", "linux/"+runtime.GOARCH)
	}
	_, err = s.Resolve(t.Context(), foreignIndex)
	wantCode(t, err, core.KindInvalid, core.ReasonImageUnsupported, "linux/s390x")
}

// A name that is beside a digest reminds of it, and moves no other name.
func TestPullByDigest(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Options{})
	s, _ := puller(t, registry.Options{})
	ref := r.Push(t, simple(t, "x", gzipLayer(t, entry{name: "one"})), "a:1")
	one, err := s.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	r.Push(t, simple(t, "x", gzipLayer(t, entry{name: "two"})), "a:1")
	got := pull(t, s, core.ImageAt(ref, one))
	if got.Digest != one || len(got.Names) != 1 || got.Names[0] != ref {
		t.Errorf("by digest it pulled %+v", got)
	}
	two := pull(t, s, ref)
	if two.Digest == one || len(two.Names) != 1 {
		t.Errorf("by name it pulled %+v", two)
	}
	if got := pull(t, s, core.ImageAt(ref, one)); len(got.Names) != 0 {
		t.Errorf("the digest took the name back: %+v", got)
	}
}

// Callers who want the same share it, and images share their layers.
func TestPullsAreShared(t *testing.T) {
	t.Parallel()
	f := registrytest.NewFront(t, registrytest.Start(t, registrytest.Options{}))
	behind := f.Registry()
	base := gzipLayer(t, entry{name: "base", body: noise(1, 300<<10)})
	image2 := func(top string) []byte {
		layers := []layer{base, gzipLayer(t, entry{name: top})}
		return simple(t, "x", layers...)
	}
	a, b := behind.Push(t, image2("a"), "a:1"), behind.Push(t, image2("b"), "b:1")
	baseBlob := "/blobs/" + digestOf(base.blob)
	before := f.Count("GET", baseBlob)
	// The base comes only when all have asked.
	var waiting atomic.Int64
	all := make(chan struct{})
	f.Set(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if strings.Contains(r.URL.Path, baseBlob) {
			<-all
		}
		return false
	})
	s, dir := puller(t, registry.Options{})
	var group sync.WaitGroup
	for i := range 8 {
		ref := a
		if i%2 == 1 {
			ref = b
		}
		var once sync.Once
		group.Go(func() {
			_, err := s.Pull(t.Context(), ref, func(p core.PullProgress) {
				if p.Phase == core.PullDownloading {
					once.Do(func() {
						if waiting.Add(1) == 8 {
							close(all)
						}
					})
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := f.Count("GET", baseBlob) - before; n != 1 {
		t.Errorf("the layer that all have was asked for %d times", n)
	}
	if n := len(dirs(t, dir, "layers")); n != 3 {
		t.Errorf("there are %d layers, want 3", n)
	}
	if left := append(dirs(t, dir, "spool"), dirs(t, dir, "tmp")...); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestPullGoesOnAfterACut(t *testing.T) {
	t.Parallel()
	f := registrytest.NewFront(t, registrytest.Start(t, registrytest.Options{}))
	behind := f.Registry()
	big := gzipLayer(t, entry{name: "big", body: noise(2, 4<<20)})
	ref := behind.Push(t, simple(t, "x", big), "a:1")
	var cuts atomic.Int64
	f.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, digestOf(big.blob)) && cuts.Add(1) <= 12 {
			registrytest.CutAfter(w, r, next, 300<<10) // further than it must get to count as further
		}
		return false
	})
	s, _ := puller(t, registry.Options{})
	pull(t, s, ref)
	if n := f.Count(digestOf(big.blob), "bytes="); n != 12 {
		t.Errorf("it went on %d times, want 12", n)
	}
}

// A pull that was ended in the middle, by whatever, is gone on with by the
// next process.
func TestPullGoesOnInTheNextProcess(t *testing.T) {
	t.Parallel()
	f := registrytest.NewFront(t, registrytest.Start(t, registrytest.Options{}))
	behind := f.Registry()
	big := gzipLayer(t, entry{name: "big", body: noise(3, 2<<20)})
	ref := behind.Push(t, simple(t, "x", big), "a:1")
	f.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, digestOf(big.blob)) {
			registrytest.HoldAfter(w, r, next, 1<<20, r.Context().Done())
			return true
		}
		return false
	})
	opts := image.Options{Registries: registry.Options{Keychain: keys{}}}
	s, dir := open(t, opts)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := s.Pull(ctx, ref, func(p core.PullProgress) {
		if p.Done >= 1<<20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the pull ended with %v", err)
	}
	if images, _ := s.Images(t.Context()); len(images) != 0 {
		t.Errorf("half an image is there: %v", images)
	}
	image.WaitIdle(s)
	f.Set(nil)
	again := reopen(t, dir, opts)
	var first core.PullProgress
	got, err := again.Pull(t.Context(), ref, func(p core.PullProgress) {
		if first.Total == 0 {
			first = p
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := f.Count(digestOf(big.blob), "bytes=1048576-"); n != 1 {
		t.Errorf("it did not go on from where it was: %v", f.Seen())
	}
	root, err := again.Rootfs(t.Context(), got.Digest)
	if err != nil || read(t, root.Layers[0], "big") != noise(3, 2<<20) {
		t.Errorf("what was unpacked is not what was pushed: %v", err)
	}
}

// What is in the spool is not trusted.
func TestSpoolIsVerified(t *testing.T) {
	t.Parallel()
	behind := registrytest.Start(t, registrytest.Options{})
	big := gzipLayer(t, entry{name: "big", body: noise(4, 1<<20)})
	ref := behind.Push(t, simple(t, "x", big), "a:1")
	for name, spooled := range map[string][]byte{
		"wrong":    bytes.Repeat([]byte("x"), 1000),
		"too long": append(bytes.Clone(big.blob), 'x'),
		"all":      big.blob,
		"all but wrong": func() []byte {
			b := bytes.Clone(big.blob)
			b[100] ^= 1
			return b
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := registrytest.NewFront(t, behind)
			ref := strings.Replace(ref, behind.Host, f.Host, 1)
			s, dir := puller(t, registry.Options{})
			file := filepath.Join(dir, "spool", digestOf(big.blob)[7:]+".part")
			if err := os.WriteFile(file, spooled, 0o600); err != nil {
				t.Fatal(err)
			}
			before := f.Count("GET", digestOf(big.blob))
			pull(t, s, ref)
			if n := f.Count("GET", digestOf(big.blob)) - before; name == "all" && n != 0 {
				t.Errorf("a layer that was there was asked for %d times", n)
			}
		})
	}
}

func TestRegistriesThatLieOrFail(t *testing.T) {
	t.Parallel()
	behind := registrytest.Start(t, registrytest.Options{})
	content := gzipLayer(t, entry{name: "f", body: noise(5, 600<<10)})
	data := simple(t, "x", content)
	blob := digestOf(content.blob)
	whole := func(change func([]byte) []byte) func(http.ResponseWriter, *http.Request, http.Handler) bool {
		return func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if !strings.Contains(r.URL.Path, blob) {
				return false
			}
			body := change(bytes.Clone(content.blob))
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = w.Write(body)
			return true
		}
	}
	chunked := func(change func([]byte) []byte) func(http.ResponseWriter, *http.Request, http.Handler) bool {
		return func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if !strings.Contains(r.URL.Path, blob) {
				return false
			}
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush() // so that it has no length
			_, _ = w.Write(change(bytes.Clone(content.blob)))
			return true
		}
	}
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	shorter := func(b []byte) []byte { return b[:len(b)-1000] }
	longer := func(b []byte) []byte { return append(b, b...) }
	for name, tc := range map[string]struct {
		serve func(http.ResponseWriter, *http.Request, http.Handler) bool
		kind  core.Kind
		words []string
	}{
		"another digest":    {whole(flip), core.KindUnavailable, []string{"something else", "lies"}},
		"a shorter length":  {whole(shorter), core.KindUnavailable, []string{"should have " + strconv.Itoa(len(content.blob))}},
		"a longer length":   {whole(longer), core.KindUnavailable, []string{"should have"}},
		"less than it said": {chunked(shorter), core.KindUnavailable, []string{"less"}},
		"more than it said": {chunked(longer), core.KindUnavailable, []string{"more"}},
		"cut again and again": {func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
			if strings.Contains(r.URL.Path, blob) {
				registrytest.CutAfter(w, r, next, 1000)
			}
			return false
		}, core.KindUnavailable, []string{"cannot be reached"}},
		"a blob that is gone": {status(blob, 404), core.KindNotFound, []string{"has no image"}},
		"a blob it keeps":     {status(blob, 403), core.KindInvalid, []string{"unauthenticated"}},
		"500":                 {status("/manifests/", 500), core.KindUnavailable, []string{"answered 500"}},
		"429":                 {status("/manifests/", 429), core.KindUnavailable, []string{"no more for now"}},
		"another manifest":    {otherManifest, core.KindInvalid, nil},
		"a manifest too large": {func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", ociManifest)
			_, _ = w.Write(bytes.Repeat([]byte(" "), 2<<20))
			return true
		}, core.KindTooLarge, []string{"1MiB"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := registrytest.NewFront(t, behind)
			ref := f.Registry().Push(t, data, "lies/"+strings.ToLower(strings.ReplaceAll(name, " ", "-"))+":1")
			f.Set(tc.serve)
			s, dir := puller(t, registry.Options{})
			_, err := s.Pull(t.Context(), ref, nil)
			code := core.ReasonImagePullFailed
			if tc.kind == core.KindNotFound {
				code = core.ReasonImageNotFound
			}
			wantCode(t, err, tc.kind, code, tc.words...)
			image.WaitIdle(s)
			if images, _ := s.Images(t.Context()); len(images) != 0 || len(dirs(t, dir, "layers")) != 0 || len(dirs(t, dir, "tmp")) != 0 {
				t.Errorf("it left something: %v", tree(t, dir))
			}
			f.Set(nil)
			pull(t, s, ref) // and when it has come to its senses all is well
		})
	}
}

func status(in string, code int) func(http.ResponseWriter, *http.Request, http.Handler) bool {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !strings.Contains(r.URL.Path, in) {
			return false
		}
		w.WriteHeader(code)
		return true
	}
}

// otherManifest answers with something that is no manifest.
func otherManifest(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
	if !strings.Contains(r.URL.Path, "/manifests/") {
		return false
	}
	w.Header().Set("Content-Type", ociManifest)
	_, _ = io.WriteString(w, "{")
	return true
}

// What comes from a registry has the bounds of what is loaded.
func TestPullIsBounded(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Options{})
	zeros := gzipLayer(t, entry{name: "zeros", body: strings.Repeat("\x00", 8<<20)})
	many := gzipLayer(t, entry{name: "a"}, entry{name: "b"}, entry{name: "c"})
	large := gzipLayer(t, entry{name: "large", body: noise(12, 2<<20)})
	for name, tc := range map[string]struct {
		layer layer
		opts  image.Options
	}{
		"gzip bomb":          {zeros, image.Options{MaxRatio: 10}},
		"unpacked":           {zeros, image.Options{MaxLayer: core.MiB}},
		"many entries":       {many, image.Options{MaxEntries: 2}},
		"larger than may be": {large, image.Options{MaxImage: core.MiB}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ref := r.Push(t, simple(t, "x", tc.layer), "bounded/"+strings.ReplaceAll(name, " ", "-")+":1")
			tc.opts.Registries.Keychain = keys{}
			s, dir := open(t, tc.opts)
			image.SetRatioFrom(s, 1<<20)
			_, err := s.Pull(t.Context(), ref, nil)
			wantCode(t, err, core.KindTooLarge, core.ReasonImagePullFailed)
			image.WaitIdle(s)
			if left := append(dirs(t, dir, "layers"), dirs(t, dir, "tmp")...); len(left) != 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
	t.Run("a full disk", func(t *testing.T) {
		t.Parallel()
		ref := r.Push(t, simple(t, "x", large), "bounded/disk:1")
		s, dir := open(t, image.Options{MinFree: 1 << 60, Registries: registry.Options{Keychain: keys{}}})
		_, err := s.Pull(t.Context(), ref, nil)
		wantCode(t, err, core.KindUnavailable, core.ReasonDiskFull, "make room")
		image.WaitIdle(s)
		if left := dirs(t, dir, "spool"); len(left) != 0 {
			t.Errorf("it left %v on a full disk", left)
		}
	})
}

func TestStalls(t *testing.T) {
	t.Parallel()
	behind := registrytest.Start(t, registrytest.Options{})
	content := gzipLayer(t, entry{name: "f", body: noise(6, 600<<10)})
	data := simple(t, "x", content)
	for name, in := range map[string]string{"hello": "/v2/", "manifest": "/manifests/", "blob": digestOf(content.blob)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := registrytest.NewFront(t, behind)
			ref := f.Registry().Push(t, data, "stalls/"+name+":1")
			f.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
				if !strings.HasSuffix(r.URL.Path, "/v2/") && name == "hello" || !strings.Contains(r.URL.Path, in) {
					return false
				}
				registrytest.HoldAfter(w, r, next, 1000, r.Context().Done())
				<-r.Context().Done()
				return true
			})
			s, _ := puller(t, registry.Options{Stall: 50 * time.Millisecond})
			_, err := s.Pull(t.Context(), ref, nil)
			wantCode(t, err, core.KindUnavailable, core.ReasonImagePullFailed, "nothing for too long")
		})
	}
}

// A registry may send elsewhere, but not out of TLS, nor from outside to the
// inside of a network.
func TestCredentialsStayWithTheirRegistry(t *testing.T) {
	t.Parallel()
	behind := registrytest.Start(t, registrytest.Options{Password: true})
	content := gzipLayer(t, entry{name: "f"})
	var told atomic.Value
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told.Store(r.Header.Get("Authorization"))
		_, _ = w.Write(content.blob)
	}))
	defer elsewhere.Close()
	f := registrytest.NewFront(t, behind)
	ref := behind.Push(t, simple(t, "x", content), "a:1")
	f.Set(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !strings.Contains(r.URL.Path, "/blobs/"+digestOf(content.blob)) {
			return false
		}
		http.Redirect(w, r, elsewhere.URL+"/blob", http.StatusTemporaryRedirect)
		return true
	})
	s, _ := puller(t, registry.Options{Keychain: keys{registrytest.User, registrytest.Password}})
	pull(t, s, strings.Replace(ref, behind.Host, f.Host, 1))
	if got, ok := told.Load().(string); !ok || got != "" {
		t.Errorf("the other host was told %q", got)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	f := registrytest.NewFront(t, registrytest.Start(t, registrytest.Options{}))
	behind := f.Registry()
	content := gzipLayer(t, entry{name: "big", body: noise(7, 1<<20)})
	small := gzipLayer(t, entry{name: "small"})
	ref := behind.Push(t, simple(t, "x", content, small), "a:1")
	half := make(chan struct{})
	f.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if !strings.Contains(r.URL.Path, digestOf(content.blob)) {
			return false
		}
		registrytest.HoldAfter(w, r, next, 1<<19, half)
		return true
	})
	s, _ := puller(t, registry.Options{})
	total := core.Bytes(len(content.blob) + len(small.blob))
	var seen []core.PullProgress
	var once sync.Once
	got, err := s.Pull(t.Context(), ref, func(p core.PullProgress) {
		seen = append(seen, p)
		if p.LayersDone == 1 && p.Done >= 1<<18 {
			once.Do(func() { close(half) })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen[0].Phase != core.PullResolving || seen[0].Image != ref {
		t.Errorf("at first it said %+v", seen[0])
	}
	ok := false
	for _, p := range seen {
		if p.Phase == core.PullDownloading && p.LayersDone == 1 {
			ok = p.Total == total && p.Layers == 2 && p.Percent() > 0 && p.Percent() < 100 && p.Digest == got.Digest && p.Rate > 0 && p.Left() > 0
		}
	}
	if !ok {
		t.Errorf("it never said how far it was: %+v", seen)
	}
}

// What is pulled can be pulled again, and so may go; what was loaded may not.
func TestPruneKnowsWhatCanBePulledAgain(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Options{})
	now := time.Now()
	s, dir := open(t, image.Options{Registries: registry.Options{Keychain: keys{}}, Now: func() time.Time { return now }})
	big := gzipLayer(t, entry{name: "big", body: noise(8, 100<<10)})
	refs := []string{
		r.Push(t, simple(t, "x", gzipLayer(t, entry{name: "old", body: noise(9, 100<<10)})), "old:1"),
		r.Push(t, simple(t, "x", big), "young:1"),
	}
	old := pull(t, s, refs[0])
	now = now.Add(2 * time.Hour)
	young := pull(t, s, refs[1])
	load(t, s, simple(t, "mine", plainLayer(t, entry{name: "mine", body: noise(10, 100<<10)})))
	now = now.Add(2 * time.Hour)
	gone, err := s.Prune(t.Context(), core.ImageLimits{Space: 250 << 10}, keepNone)
	if err != nil || len(gone.Images) != 1 || gone.Images[0].Digest != old.Digest || gone.Bytes != 100<<10 {
		t.Errorf("for space it pruned %+v, %v", gone, err)
	}
	// One byte is too little for what is there, but what cannot be had again
	// stays.
	if gone, err = s.Prune(t.Context(), core.ImageLimits{Space: 1}, keepNone); err != nil || len(gone.Images) != 1 || gone.Images[0].Digest != young.Digest {
		t.Errorf("for more space it pruned %+v, %v", gone, err)
	}
	if _, err := s.Image(t.Context(), "mine"); err != nil {
		t.Error(err)
	}
	pull(t, s, core.ImageAt(refs[0], old.Digest))
	// It was just used, and would be wanted again at once.
	if gone, err = s.Prune(t.Context(), core.ImageLimits{Space: 1}, keepNone); err != nil || len(gone.Images) != 0 {
		t.Errorf("what is new went: %+v, %v", gone, err)
	}
	file := filepath.Join(dir, "spool", strings.Repeat("ab", 32)+".part")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		age  time.Duration
		left int
	}{{time.Hour, 1}, {48 * time.Hour, 0}} {
		now = time.Now().Add(want.age)
		if _, err := s.Prune(t.Context(), core.ImageLimits{}, keepNone); err != nil {
			t.Fatal(err)
		}
		if left := dirs(t, dir, "spool"); len(left) != want.left {
			t.Errorf("after %s the spool has %v", want.age, left)
		}
	}
}

func TestLoadTakesLayersOfAPull(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Options{})
	s, dir := puller(t, registry.Options{})
	base := gzipLayer(t, entry{name: "base"})
	pulled := pull(t, s, r.Push(t, simple(t, "x", base), "a:1"))
	loaded := load(t, s, simple(t, "same", base))[0]
	if loaded.Digest != pulled.Digest || loaded.Source != pulled.Source || len(loaded.Names) != 2 {
		t.Errorf("the same image, loaded, is %+v", loaded)
	}
	again := reopen(t, dir, image.Options{})
	if got, err := again.Image(t.Context(), "same"); err != nil || got.Source != pulled.Source {
		t.Errorf("after opening again it is %+v, %v", got, err)
	}
}

func TestCloseEndsPulls(t *testing.T) {
	t.Parallel()
	f := registrytest.NewFront(t, registrytest.Start(t, registrytest.Options{}))
	ref := f.Registry().Push(t, simple(t, "x", gzipLayer(t, entry{name: "a", body: noise(11, 1<<20)})), "a:1")
	held := make(chan struct{}, 9)
	f.Set(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			held <- struct{}{}
			<-r.Context().Done()
		}
		return false
	})
	s, err := image.Open(t.Context(), filepath.Join(t.TempDir(), "images"), image.Options{Registries: registry.Options{Keychain: keys{}}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := s.Pull(context.Background(), ref, nil)
		ended <- err
	}()
	<-held
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wantCode(t, <-ended, core.KindUnavailable, core.ReasonServerRestarted, "stopping")
}
