package image

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dayfly-io/dayfly/internal/core"
)

func TestFlights(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f flights[int, string]
		var running sync.WaitGroup
		var begun, ended int
		gate := make(chan struct{})
		work := func(ctx context.Context, state *int) (string, error) {
			begun++
			*state = begun
			defer func() { ended++ }()
			select {
			case <-gate:
				return "done", nil
			case <-ctx.Done():
				time.Sleep(time.Second) // it takes its time to end
				return "", context.Cause(ctx)
			}
		}
		type result struct {
			value string
			err   error
		}
		join := func(ctx context.Context, tag string) <-chan result {
			c := make(chan result, 1)
			go func() {
				v, err := f.do(ctx, t.Context(), &running, ask[int, string]{key: "k", tag: tag, work: work})
				c <- result{v, err}
			}()
			synctest.Wait()
			return c
		}
		first, leave := context.WithCancelCause(t.Context())
		second, leaveToo := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		a, b := join(first, ""), join(second, "")
		leave(gone)
		if r := <-a; !errors.Is(r.err, gone) || ended != 0 {
			t.Errorf("who left got %v, and %d works ended", r.err, ended)
		}
		leaveToo(gone)
		<-b
		// Nobody wants it any more: who comes now waits for its end, and has it
		// done anew.
		c := join(t.Context(), "")
		if begun != 1 {
			t.Errorf("%d works go on at the same time", begun)
		}
		if err := f.unless("k", func() error { return errors.New("it was not kept from it") }); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		// Other work of the key waits too.
		d := join(t.Context(), "other")
		if begun != 2 || ended != 1 {
			t.Errorf("%d works have begun and %d ended", begun, ended)
		}
		close(gate)
		for _, c := range []<-chan result{c, d} {
			if r := <-c; r.value != "done" || r.err != nil {
				t.Errorf("got %+v", r)
			}
		}
		running.Wait()
		if begun != 3 || len(f.under) != 0 {
			t.Errorf("%d works have begun, %d are left", begun, len(f.under))
		}
		did := false
		if err := f.unless("k", func() error { did = true; return nil }); err != nil || !did {
			t.Errorf("with nothing under way it was not done: %v", err)
		}
	})
}

func TestProgressRate(t *testing.T) {
	t.Parallel()
	var p progress
	now := time.Unix(0, 0)
	p.begin("i", now)
	l := &layerProgress{}
	p.resolved("sha256:1", 1000, 1)
	p.follow(l)
	for range 20 { // 10 bytes each second, then 100
		now = now.Add(time.Second)
		l.got.Add(10)
		p.at(now)
	}
	if got := p.at(now); got.Rate != 10 || got.Percent() != 20 || got.Left() != 80*time.Second {
		t.Errorf("got %+v, %s left", got, got.Left())
	}
	for range 8 {
		now = now.Add(time.Second)
		l.got.Add(100)
		p.at(now)
	}
	if got := p.at(now); got.Rate != 100 || got.Phase != core.PullUnpacking || got.Percent() != 100 || got.Left() != 0 {
		t.Errorf("got %+v, %s left", got, got.Left())
	}
}

func FuzzRemoteRef(f *testing.F) {
	for _, ref := range []string{
		"", "a", "a:1", "r.example/a", "r.example:5000/a/b:1", "a@sha256:" + strings.Repeat("ab", 32), "a:1@sha256:" + strings.Repeat("ab", 32),
		"sha256:" + strings.Repeat("ab", 32), "localhost/a", "[::1]:5000/a:1", "http://a/b", "a b", "A", "a//b", "../a", "a@b@c", strings.Repeat("a", 600), "\x00",
	} {
		f.Add(ref)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		got, err := remoteRef(ref)
		if err != nil {
			if e := core.AsError(err); e.Kind != core.KindInvalid && e.Kind != core.KindNotFound {
				t.Errorf("%q: %v", ref, err)
			}
			return
		}
		// What becomes a URL holds nothing that would lead elsewhere in it.
		for _, part := range []string{got.ref.Context().RepositoryStr(), got.ref.Identifier()} {
			if part == "" || strings.ContainsAny(part, "?#%\\ \x00") || strings.Contains("/"+part+"/", "/../") || strings.Contains("/"+part+"/", "/./") {
				t.Errorf("%q leads to %q", ref, part)
			}
		}
		if host := got.ref.Context().RegistryStr(); host == "" || strings.ContainsAny(host, "/?#@\\ \x00") {
			t.Errorf("%q leads to the host %q", ref, host)
		}
		if _, err := nameKeys([]string{got.named}); got.named != "" && err != nil {
			t.Errorf("%q has the name %q, which is none: %v", ref, got.named, err)
		}
	})
}

// documents is a registry that answers with the same for whatever it is asked.
type documents []byte

func (d documents) document(context.Context, v1.Descriptor, string, string, core.Bytes) ([]byte, error) {
	return d, nil
}

func (d documents) layer(l v1.Descriptor, called string) (*blob, error) {
	return remote{}.layer(l, called)
}

// Whatever a registry answers, it is an image that holds together or an error
// for people.
func FuzzManifest(f *testing.F) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for _, text := range []string{
		`{}`, `[]`, `null`,
		`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + digest + `","size":5,"platform":{"os":"linux","architecture":"amd64"}}]}`,
		`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + digest + `","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"` + digest + `","size":9}],"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["` + digest + `"]}}`,
		`{"layers":[{"size":-1}],"config":{"mediaType":"application/vnd.docker.container.image.v1+json"}}`,
	} {
		for _, media := range []string{string(types.OCIImageIndex), string(types.OCIManifestSchema1), ""} {
			f.Add([]byte(text), media)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, media string) {
		p := &picker{source: documents(data), byDigest: map[string]*candidate{}}
		choices, _, err := p.open(t.Context(), v1.Descriptor{MediaType: types.MediaType(media)}, "i", 0)
		if err != nil {
			if e := core.AsError(asPull(err)); e.Kind == core.KindInternal || e.Code == core.CodeInvalid {
				t.Errorf("got %v", err)
			}
			return
		}
		for _, c := range choices {
			if n := len(c.image.record.Layers); n == 0 || n > maxLayers || n != len(c.image.blobs) {
				t.Errorf("an image has %d layers and %d blobs", n, len(c.image.blobs))
			}
			for _, b := range c.image.blobs {
				if b.size <= 0 || len(hexOf(b.digest)) != 64 {
					t.Errorf("a layer is %+v", b)
				}
			}
		}
	})
}
