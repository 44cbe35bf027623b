package image_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/deploy"
	"github.com/dayfly-io/dayfly/internal/image"
)

var _ deploy.Images = (*image.Store)(nil)

func TestRemove(t *testing.T) {
	t.Parallel()
	s, dir := open(t, image.Options{})
	empty := tree(t, dir)
	shared := plainLayer(t, entry{name: "shared"})
	one := load(t, s, simple(t, "one", shared, plainLayer(t, entry{name: "1"})))[0]
	load(t, s, simple(t, "uno", shared, plainLayer(t, entry{name: "1"})))
	two := load(t, s, simple(t, "two", shared))[0]

	if _, err := s.Acquire(t.Context(), two.Digest); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), two.Digest); !core.IsKind(err, core.KindConflict) {
		t.Fatalf("removing an image in use: %v", err)
	}
	if err := s.Remove(t.Context(), "docker.io/library/uno:latest"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Image(t.Context(), "one"); err != nil || !slices.Equal(got.Names, []string{"one"}) {
		t.Fatalf("one is %+v, %v", got, err)
	}
	if err := s.Remove(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), one.Digest); err != nil {
		t.Fatal(err)
	}
	r, err := s.Rootfs(t.Context(), two.Digest)
	if err != nil || len(r.Layers) != 1 || read(t, r.Layers[0], "shared") != "" {
		t.Fatalf("the image in use: %+v, %v", r, err)
	}
	if _, err := s.Rootfs(t.Context(), one.Digest); core.AsError(err).Code != core.ReasonImageNotFound {
		t.Fatalf("the removed image: %v", err)
	}
	for _, ref := range []string{"one", "two", one.Digest} {
		if err := s.Remove(t.Context(), ref); !core.IsKind(err, core.KindNotFound) {
			t.Errorf("removing %s again: %v", ref, err)
		}
	}
	s.Release(two.Digest)
	if err := s.Remove(t.Context(), two.Digest); err != nil {
		t.Fatal(err)
	}
	image.WaitSwept(s)
	if left := tree(t, dir); !slices.Equal(left, empty) {
		t.Fatalf("left: %v", left)
	}
}

func TestPruneByAge(t *testing.T) {
	t.Parallel()
	now := day0
	s, dir := open(t, image.Options{Now: func() time.Time { return now }})
	empty := tree(t, dir)
	var digests []string
	for _, v := range []string{"kept", "used", "old", "young", "named"} {
		if v == "young" {
			now = day0.Add(time.Hour)
		}
		digests = append(digests, load(t, s, simple(t, "hello", plainLayer(t, entry{name: v, body: v})))[0].Digest)
	}
	if _, err := s.Acquire(t.Context(), digests[1]); err != nil {
		t.Fatal(err)
	}
	var asked []string
	keep := func(i core.Image) bool { asked = append(asked, i.Digest); return i.Digest == digests[0] }
	gone, err := s.Prune(t.Context(), core.ImageLimits{UnusedSince: day0.Add(time.Minute)}, keep)
	if err != nil || len(gone.Images) != 1 || gone.Layers != 1 || gone.Bytes != core.Bytes(len("old")) {
		t.Fatalf("pruned %+v, %v", gone, err)
	}
	if want := []string{digests[0], digests[2]}; len(asked) != 2 || !slices.Contains(want, asked[0]) || !slices.Contains(want, asked[1]) {
		t.Fatalf("asked for %v", asked)
	}
	s.Release(digests[1])
	// Released, but acquired within the hour.
	if gone, err = s.Prune(t.Context(), core.ImageLimits{UnusedSince: day0.Add(time.Minute)}, keep); err != nil || len(gone.Images) != 0 {
		t.Fatalf("pruned %+v, %v", gone, err)
	}
	later := core.ImageLimits{UnusedSince: day0.Add(2 * time.Hour)}
	if gone, err = s.Prune(t.Context(), later, keepNone); err != nil || len(gone.Images) != 3 || gone.Bytes != core.Bytes(len("keptusedyoung")) {
		t.Fatalf("pruned %+v, %v", gone, err)
	}
	later.Named = true
	if gone, err = s.Prune(t.Context(), later, keepNone); err != nil || len(gone.Images) != 1 || !slices.Equal(gone.Images[0].Names, []string{"hello"}) {
		t.Fatalf("with those that have names it pruned %+v, %v", gone, err)
	}
	image.WaitSwept(s)
	if left := tree(t, dir); !slices.Equal(left, empty) {
		t.Fatalf("left: %v", left)
	}
}

func keepNone(core.Image) bool { return false }

// The use of an image is known to the next process.
func TestUseIsRemembered(t *testing.T) {
	t.Parallel()
	now := day0
	opts := image.Options{Now: func() time.Time { return now }}
	s, dir := open(t, opts)
	used := load(t, s, simple(t, "used", plainLayer(t, entry{name: "a"})))[0]
	load(t, s, simple(t, "unused", plainLayer(t, entry{name: "b"})))
	now = day0.Add(50 * time.Hour)
	if _, err := s.Acquire(t.Context(), used.Digest); err != nil {
		t.Fatal(err)
	}
	again := reopen(t, dir, opts)
	for name, want := range map[string]time.Time{"used": now, "unused": {}} {
		if got, err := again.Image(t.Context(), name); err != nil || !got.UsedAt.Equal(want) {
			t.Errorf("%s was used at %s, want %s (%v)", name, got.UsedAt, want, err)
		}
	}
}

func TestOpenSweeps(t *testing.T) {
	t.Parallel()
	s, dir := open(t, image.Options{})
	load(t, s, simple(t, "hello", plainLayer(t, entry{name: "f"})))
	before := tree(t, dir)
	for _, left := range []string{"tmp/load-1/deep/er", "tmp/trash-2/x", "layers/" + strings.Repeat("ab", 32) + "/etc"} {
		if err := os.MkdirAll(filepath.Join(dir, left), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Close waits for the removal that goes on in the background, so it has
	// to be seen before.
	again, err := image.Open(t.Context(), dir, image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	image.WaitSwept(again)
	if after := tree(t, dir); !slices.Equal(before, after) {
		t.Fatalf("left: %v", after)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenReportsDamage(t *testing.T) {
	t.Parallel()
	s, dir := open(t, image.Options{})
	good := load(t, s, simple(t, "good", plainLayer(t, entry{name: "good"})))[0]
	data := simple(t, "bad", plainLayer(t, entry{name: "bad"}))
	bad := load(t, s, data)[0]
	file := filepath.Join(dir, "images", bad.Digest[7:]+".json")
	for _, damage := range []string{"", "{", `{"digest":"sha256:x"}`, strings.Replace(read(t, file), `"diff_id":"sha256:`, `"diff_id":"sha256:../../`, 1)} {
		if err := os.WriteFile(file, []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		again := reopen(t, dir, image.Options{})
		problems := again.Problems()
		if len(problems) != 2 || !strings.Contains(problems[0].Error(), file) || !strings.Contains(problems[1].Error(), "/names/") {
			t.Fatalf("%q: %v", damage, problems)
		}
		if got, err := again.Image(t.Context(), "good"); err != nil || got.Digest != good.Digest {
			t.Fatalf("the good one: %v", err)
		}
		if _, err := again.Image(t.Context(), "bad"); !core.IsKind(err, core.KindNotFound) {
			t.Fatalf("the bad one: %v", err)
		}
		// Its layers are kept for whoever mends the file, and replaced when it
		// is loaded again.
		if _, err := again.Prune(t.Context(), core.ImageLimits{UnusedSince: day0.AddDate(100, 0, 0)}, keepNone); err != nil {
			t.Fatal(err)
		}
		if n := len(dirs(t, dir, "layers")); n != 2 {
			t.Fatalf("there are %d layers", n)
		}
		load(t, again, data)
		if got := reopen(t, dir, image.Options{}); len(got.Problems()) != 0 {
			t.Fatalf("after loading again: %v", got.Problems())
		}
	}
	layerDir := dirs(t, dir, "layers")[0]
	if err := os.RemoveAll(filepath.Join(dir, "layers", layerDir)); err != nil {
		t.Fatal(err)
	}
	if got := reopen(t, dir, image.Options{}).Problems(); len(got) != 2 || !strings.Contains(got[0].Error(), "layer is missing") {
		t.Fatalf("with a layer gone: %v", got)
	}
}

func dirs(t testing.TB, elem ...string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestStoreIsPrivate(t *testing.T) {
	t.Parallel()
	_, dir := open(t, image.Options{})
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("the directory is %v, %v", info, err)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s, dir := open(t, image.Options{})
	base := plainLayer(t, entry{name: "base", body: "b"})
	var wg sync.WaitGroup
	for i := range 8 {
		data := simple(t, "hello", base, plainLayer(t, entry{name: string(rune('a' + i%4))}))
		wg.Go(func() {
			for range 3 {
				images, err := s.Load(t.Context(), bytes.NewReader(data))
				if err != nil || len(images) != 1 {
					t.Errorf("load: %v", err)
					return
				}
				r, err := s.Acquire(t.Context(), images[0].Digest)
				if core.IsKind(err, core.KindNotFound) {
					continue // collected meanwhile
				}
				if err != nil {
					t.Errorf("acquire: %v", err)
					return
				}
				for _, l := range r.Layers {
					if _, err := os.Stat(l); err != nil {
						t.Errorf("a layer that is in use: %v", err)
					}
				}
				if _, err := s.User(r, "7"); err != nil {
					t.Errorf("user: %v", err)
				}
				s.Release(r.Digest)
				if _, err := s.Prune(t.Context(), core.ImageLimits{UnusedSince: time.Now().Add(time.Hour)}, keepNone); err != nil {
					t.Errorf("gc: %v", err)
				}
				if _, err := s.Images(t.Context()); err != nil {
					t.Errorf("images: %v", err)
				}
			}
		})
	}
	wg.Wait()
	image.WaitSwept(s)
	if got := dirs(t, dir, "tmp"); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

func TestLoadWaitsForItsTurnOrItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t, image.Options{})
		unlock := image.Lock(s)
		defer unlock()
		done := make(chan error)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, err := s.Load(ctx, bytes.NewReader(simple(t, "x", plainLayer(t, entry{name: "f"}))))
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; err == nil || !strings.Contains(err.Error(), "waiting for another load") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestUser(t *testing.T) {
	t.Parallel()
	passwd := "root:x:0:0:root:/root:/bin/sh\n# note\napp:x:1000:1001:App:/home/app:/bin/sh\nshort:x\nbad:x:-1:0::/:\n1234:x:5:6::relative:\n"
	group := "root:x:0:\nadm:x:4:root,app\nstaff:x:50:app,other\ndup:x:4:app\nbroken:x:zz:app\n"
	base := plainLayer(t, entry{name: "etc/passwd", body: "app:x:1:1::/:\n"}, entry{name: "etc/group", body: group})
	s, _ := open(t, image.Options{})
	full := load(t, s, simple(t, "full", base, plainLayer(t, entry{name: "nix/passwd", body: passwd}, entry{name: "etc/passwd", link: "/nix/passwd"})))[0]
	bare := load(t, s, simple(t, "bare", plainLayer(t, entry{name: "app"})))[0]
	hostile := load(t, s, simple(t, "hostile", plainLayer(t, entry{name: "etc/passwd", link: "../../../../../../../../../../../etc/passwd"}, entry{name: "etc/group/"})))[0]
	large := load(t, s, simple(t, "large", plainLayer(t, entry{name: "etc/passwd", body: strings.Repeat("x", 1<<20+1)})))[0]
	for _, c := range []struct {
		digest, spec string
		want         image.User
	}{
		{full.Digest, "", image.User{Home: "/root", Groups: []uint32{4}}},
		{full.Digest, "app", image.User{UID: 1000, GID: 1001, Groups: []uint32{4, 50}, Home: "/home/app"}},
		{full.Digest, "1000", image.User{UID: 1000, GID: 1001, Groups: []uint32{4, 50}, Home: "/home/app"}},
		{full.Digest, "app:", image.User{UID: 1000, GID: 1001, Groups: []uint32{4, 50}, Home: "/home/app"}},
		{full.Digest, "app:staff", image.User{UID: 1000, GID: 50, Home: "/home/app"}},
		{full.Digest, "app:77", image.User{UID: 1000, GID: 77, Home: "/home/app"}},
		{full.Digest, "77", image.User{UID: 77, Home: "/"}},
		{full.Digest, "1234", image.User{UID: 5, GID: 6, Home: "/"}},
		{bare.Digest, "", image.User{Home: "/"}},
		{bare.Digest, "65534:65533", image.User{UID: 65534, GID: 65533, Home: "/"}},
	} {
		r, err := s.Rootfs(t.Context(), c.digest)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time from memory
			got, err := s.User(r, c.spec)
			if err != nil || got.UID != c.want.UID || got.GID != c.want.GID || got.Home != c.want.Home || !slices.Equal(got.Groups, c.want.Groups) {
				t.Errorf("%q: %+v, %v", c.spec, got, err)
			}
		}
	}
	for _, c := range [][2]string{
		{full.Digest, "nobody"},
		{full.Digest, "bad"},
		{full.Digest, "app:none"},
		{full.Digest, "app:broken"},
		{full.Digest, "-1"},
		{full.Digest, "2147483648"},
		{full.Digest, "short"},
		{bare.Digest, "root"},
		{hostile.Digest, "root"},
		{hostile.Digest, "1"},
		{large.Digest, "1"},
	} {
		r, err := s.Rootfs(t.Context(), c[0])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.User(r, c[1]); core.AsError(err).Code != core.ReasonImageUnsupported {
			t.Errorf("%q: %+v, %v", c[1], got, err)
		}
	}
	if err := s.Remove(t.Context(), "full"); err != nil {
		t.Fatal(err)
	}
}
