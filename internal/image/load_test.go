package image_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/image"
)

func TestLoadLayout(t *testing.T) {
	t.Parallel()
	base := plainLayer(t, entry{name: "etc/os", body: "base"})
	zipped := plainLayer(t, entry{name: "etc/app", body: "gzip"})
	zipped.blob, zipped.media = gzipped(t, zipped.plain), ociLayer+"+gzip"
	members := plainLayer(t, entry{name: "etc/members", body: "two gzip members"})
	members.blob, members.media = append(gzipped(t, members.plain[:700]), gzipped(t, members.plain[700:])...), ociLayer+"+gzip"
	zst := plainLayer(t, entry{name: "etc/zst", body: "zstd"})
	zst.blob, zst.media = zstded(t, zst.plain), ociLayer+"+zstd"
	padded := plainLayer(t, entry{name: "etc/padded", body: "p"})
	padded.plain = append(padded.plain, "what follows a tar counts to its digest"...)
	padded.blob = padded.plain
	s, dir := open(t, image.Options{})
	data := simple(t, "shop/app:1", base, zipped, members, zst, base, padded)

	for _, form := range [][]byte{data, gzipped(t, data), zstded(t, data)} {
		got := load(t, s, form)
		if len(got) != 1 || !slices.Equal(got[0].Names, []string{"shop/app:1"}) || got[0].Size != core.Bytes(4+4+16+4+4+1) || got[0].LoadedAt.IsZero() {
			t.Fatalf("got %+v", got)
		}
		c := got[0].Config
		if c.User != "app" || c.Entrypoint[0] != "/app" || c.Cmd[0] != "x" || c.Env[0] != "A=b" || c.WorkingDir != "/w" || c.StopSignal != "SIGINT" || c.OS != "linux" {
			t.Fatalf("config %+v", c)
		}
		r, err := s.Rootfs(t.Context(), got[0].Digest)
		if err != nil {
			t.Fatal(err)
		}
		// The base is there twice, and once among the directories: on top.
		var names []string
		for _, d := range r.Layers {
			for _, name := range tree(t, d) {
				if strings.HasPrefix(name, "etc/") {
					names = append(names, name)
				}
			}
		}
		if want := []string{"etc/app", "etc/members", "etc/zst", "etc/os", "etc/padded"}; !slices.Equal(names, want) {
			t.Fatalf("layers %v", names)
		}
	}
	again := reopen(t, dir, image.Options{})
	got, err := again.Image(t.Context(), "shop/app:1")
	if err != nil || got.Size != 33 || len(again.Problems()) != 0 {
		t.Fatalf("after opening again: %+v, %v, %v", got, err, again.Problems())
	}
}

// oldSave is a tar as docker save made it before version 25.
func oldSave(t testing.TB, tags ...string) []byte {
	t.Helper()
	one, two := plainLayer(t, entry{name: "a", body: "1"}), plainLayer(t, entry{name: "b", body: "2"})
	cfg, err := json.Marshal(config(runtime.GOARCH, one, two, one))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal([]object{{"Config": digestOf(cfg)[7:] + ".json", "RepoTags": tags, "Layers": []string{"11/layer.tar", "22/layer.tar", "33/layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	return tarOf(t,
		entry{name: "11/"}, entry{name: "11/VERSION", body: "1.0"}, entry{name: "11/layer.tar", body: string(one.blob)},
		entry{name: "22/layer.tar", body: string(two.blob)}, entry{name: "33/layer.tar", link: "../11/layer.tar"},
		entry{name: digestOf(cfg)[7:] + ".json", body: string(cfg)}, entry{name: "manifest.json", body: string(manifest)}, entry{name: "repositories", body: "{}"})
}

func TestLoadDockerSave(t *testing.T) {
	t.Parallel()
	s, _ := open(t, image.Options{})
	first := load(t, s, oldSave(t, "hello:1", "hello"))
	again := load(t, s, oldSave(t))
	if len(first) != 1 || !slices.Equal(first[0].Names, []string{"hello", "hello:1"}) || first[0].Size != 3 {
		t.Fatalf("got %+v", first)
	}
	if again[0].Digest != first[0].Digest || len(again[0].Names) != 2 {
		t.Fatalf("the same image again: %+v", again)
	}
	r, err := s.Rootfs(t.Context(), first[0].Digest)
	if err != nil || len(r.Layers) != 2 || read(t, r.Layers[1], "a") != "1" {
		t.Fatalf("rootfs %+v, %v", r, err)
	}
}

func TestLoadDockerSaveAsLayout(t *testing.T) {
	t.Parallel()
	s, _ := open(t, image.Options{})
	l := &layout{t: t}
	one := plainLayer(t, entry{name: "a", body: "1"})
	cfg := config(runtime.GOARCH, one)
	d := l.image(cfg, one)
	d["annotations"] = object{"io.containerd.image.name": "docker.io/library/hello:latest", "org.opencontainers.image.ref.name": "latest"}
	l.index = append(l.index, d)
	raw, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal([]object{{"Config": "blobs/sha256/" + digestOf(raw)[7:], "RepoTags": []string{"hello:latest"}, "Layers": []string{"x"}}})
	if err != nil {
		t.Fatal(err)
	}
	got := load(t, s, l.tar(entry{name: "manifest.json", body: string(manifest)}))
	if len(got) != 1 || !slices.Equal(got[0].Names, []string{"hello:latest"}) || got[0].Digest != d["digest"] {
		t.Fatalf("got %+v", got)
	}
	for _, ref := range []string{"hello", "hello:latest", "docker.io/library/hello", "index.docker.io/library/hello:latest", "library/hello", got[0].Digest, "any@" + got[0].Digest} {
		if found, err := s.Image(t.Context(), ref); err != nil || found.Digest != got[0].Digest {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for ref, kind := range map[string]core.Kind{"hello:2": core.KindNotFound, "ghcr.io/hello": core.KindNotFound, "sha256:" + strings.Repeat("0", 64): core.KindNotFound, "Bad Name": core.KindInvalid, "": core.KindInvalid, "sha256:12": core.KindInvalid} {
		if _, err := s.Image(t.Context(), ref); !core.IsKind(err, kind) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestLoadPicksThePlatform(t *testing.T) {
	t.Parallel()
	other := "s390x"
	l := &layout{t: t}
	mine, theirs := plainLayer(t, entry{name: "mine"}), plainLayer(t, entry{name: "theirs"})
	a, b := l.image(config(runtime.GOARCH, mine), mine), l.image(config(other, theirs), theirs)
	variant := l.image(config(runtime.GOARCH, mine, mine), mine, mine)
	variant["platform"] = object{"os": "linux", "architecture": runtime.GOARCH, "variant": "v3"}
	a["platform"] = object{"os": "linux", "architecture": runtime.GOARCH}
	b["platform"] = object{"os": "linux", "architecture": other}
	attestation := object{"mediaType": ociManifest, "size": 3, "digest": digestOf([]byte("not there")), "platform": object{"os": "unknown", "architecture": "unknown"}}
	nested := l.json(object{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{attestation, b, variant, a}}, ociIndex)
	l.name(l.json(object{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{nested}}, ociIndex), "multi:1")
	l.index = append(l.index, attestation)
	l.name(a, "flat:1")
	l.name(b, "flat:1")
	s, _ := open(t, image.Options{})
	got := load(t, s, l.tar())
	if len(got) != 1 || got[0].Digest != a["digest"] || !slices.Equal(got[0].Names, []string{"flat:1", "multi:1"}) {
		t.Fatalf("got %+v", got)
	}

	foreign := &layout{t: t}
	windows := foreign.image(object{"os": "windows", "architecture": "amd64", "rootfs": object{"type": "layers", "diff_ids": []string{digestOf(mine.plain)}}}, mine)
	foreign.name(foreign.json(object{"schemaVersion": 2, "manifests": []any{b, windows}}, ociIndex), "other:1")
	_, err := s.Load(t.Context(), bytes.NewReader(foreign.tar()))
	e, ok := errors.AsType[*core.Error](err)
	if !ok || e.Code != core.ReasonImageUnsupported || !strings.Contains(e.Message, "linux/s390x, windows/amd64") || !strings.Contains(e.Message, runtime.GOARCH) {
		t.Fatalf("got %v", err)
	}
	single := &layout{t: t}
	single.name(single.image(config(other, theirs), theirs), "single:1")
	if _, err := s.Load(t.Context(), bytes.NewReader(single.tar())); core.AsError(err).Code != core.ReasonImageUnsupported {
		t.Fatalf("got %v", err)
	}
}

func TestLoadMovesNames(t *testing.T) {
	t.Parallel()
	s, dir := open(t, image.Options{})
	one := load(t, s, simple(t, "hello", plainLayer(t, entry{name: "v1"})))[0]
	two := load(t, s, simple(t, "docker.io/library/hello:latest", plainLayer(t, entry{name: "v2"})))[0]
	for _, s := range []*image.Store{s, reopen(t, dir, image.Options{})} {
		got, err := s.Image(t.Context(), "hello")
		if err != nil || got.Digest != two.Digest {
			t.Fatalf("hello is %+v, %v", got, err)
		}
		old, err := s.Image(t.Context(), one.Digest)
		if err != nil || len(old.Names) != 0 {
			t.Fatalf("the old one is %+v, %v", old, err)
		}
		all, err := s.Images(t.Context())
		if err != nil || len(all) != 2 || all[0].Digest != two.Digest || all[1].Digest != one.Digest {
			t.Fatalf("all are %+v, %v", all, err)
		}
	}
}

func TestLoadSeveral(t *testing.T) {
	t.Parallel()
	l := &layout{t: t}
	shared, own := plainLayer(t, entry{name: "shared", body: "s"}), plainLayer(t, entry{name: "own", body: "o"})
	l.name(l.image(config(runtime.GOARCH, shared), shared), "one")
	l.name(l.image(config(runtime.GOARCH, shared, own), shared, own), "two")
	l.index = append(l.index, l.image(config(runtime.GOARCH, own), own)) // without a name
	s, dir := open(t, image.Options{})
	if got := load(t, s, l.tar()); len(got) != 3 {
		t.Fatalf("got %+v", got)
	}
	layers := 0
	for _, p := range tree(t, dir) {
		if strings.HasPrefix(p, "layers/") && strings.Count(p, "/") == 1 {
			layers++
		}
	}
	if layers != 2 {
		t.Fatalf("there are %d layers", layers)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	good := plainLayer(t, entry{name: "f", body: "x"})
	zip := layer{gzipped(t, good.plain), ociLayer + "+gzip", good.plain}
	// with makes a layout whose descriptors were tampered with.
	with := func(change func(l *layout, cfg, manifest object)) []byte {
		l := &layout{t: t}
		cfg := config(runtime.GOARCH, good)
		manifest := object{"schemaVersion": 2, "mediaType": ociManifest, "layers": []any{l.blob(good.blob, good.media)}}
		change(l, cfg, manifest)
		if manifest["config"] == nil {
			manifest["config"] = l.json(cfg, ociConfig)
		}
		l.name(l.json(manifest, ociManifest), "bad:1")
		return l.tar()
	}
	layerOf := func(one layer) []byte {
		return with(func(l *layout, cfg, m object) {
			cfg["rootfs"] = config("", one)["rootfs"]
			m["layers"] = []any{l.blob(one.blob, one.media)}
		})
	}
	desc := func(key string, value any) []byte {
		return with(func(_ *layout, _, m object) { m["layers"].([]any)[0].(object)[key] = value })
	}
	whole := simple(t, "x", good)
	for name, c := range map[string]struct {
		data []byte
		kind core.Kind
		code core.Code
		says string
	}{
		"nothing":             {nil, core.KindInvalid, core.CodeInvalid, "neither index.json nor manifest.json"},
		"another tar":         {tarOf(t, entry{name: "x", body: "y"}), core.KindInvalid, core.CodeInvalid, "neither"},
		"garbage":             {bytes.Repeat([]byte("garbage!"), 500), core.KindInvalid, core.CodeInvalid, "no whole tar"},
		"truncated":           {whole[:len(whole)/2], core.KindInvalid, core.CodeInvalid, ""},
		"truncated in a body": {whole[:len(whole)-1024-512-100], core.KindInvalid, core.CodeInvalid, ""},
		"truncated gzip":      {gzipped(t, whole)[:300], core.KindInvalid, core.CodeInvalid, "gzip stream is damaged"},
		"truncated zstd":      {zstded(t, whole)[:300], core.KindInvalid, core.CodeInvalid, "zstd stream is damaged"},
		"bzip2":               {[]byte("BZh91AY&SY"), core.KindInvalid, core.ReasonImageUnsupported, "bzip2"},
		"blob damaged":        {bytes.ReplaceAll(whole, []byte("0000755"), []byte("0000777")), core.KindInvalid, core.CodeInvalid, ""},
		"blob missing":        {desc("digest", digestOf([]byte("?"))), core.KindInvalid, core.CodeInvalid, "not in the tar"},
		"blob path":           {desc("digest", "sha256:../../../etc/passwd"), core.KindInvalid, core.CodeInvalid, "not what it should be"},
		"size lie":            {desc("size", 5), core.KindInvalid, core.CodeInvalid, "says it has 5"},
		"layer media type":    {desc("mediaType", ociLayer+"+encrypted"), core.KindInvalid, core.ReasonImageUnsupported, "+encrypted"},
		"sha512":              {desc("digest", "sha512:"+strings.Repeat("0", 128)), core.KindInvalid, core.ReasonImageUnsupported, "sha512"},
		"diff id lie": {with(func(_ *layout, cfg, _ object) {
			cfg["rootfs"] = object{"diff_ids": []string{digestOf([]byte("lie"))}}
		}), core.KindInvalid, core.CodeInvalid, "layer 1 of 1 (" + digestOf([]byte("lie")) + "): the layer is not the one its config names: expected " + digestOf([]byte("lie")) + ", found " + digestOf(good.plain)},
		"diff id path": {with(func(_ *layout, cfg, _ object) {
			cfg["rootfs"] = object{"diff_ids": []string{"sha256:../../x"}}
		}), core.KindInvalid, core.CodeInvalid, ""},
		"layer count": {with(func(l *layout, _, m object) { m["layers"] = []any{} }), core.KindInvalid, core.CodeInvalid, "0 layers and a config with 1"},
		"no layers":   {with(func(l *layout, cfg, m object) { m["layers"] = []any{}; cfg["rootfs"] = object{} }), core.KindInvalid, core.ReasonImageUnsupported, "no layers"},
		"many layers": {with(func(l *layout, _, m object) {
			one := m["layers"].([]any)[0]
			m["layers"] = slices.Repeat([]any{one}, 128)
		}), core.KindInvalid, core.ReasonImageUnsupported, "an overlay takes 127"},
		"config media type":   {with(func(l *layout, cfg, m object) { m["config"] = l.json(cfg, "application/vnd.cncf.helm.config.v1+json") }), core.KindInvalid, core.ReasonImageUnsupported, "helm"},
		"large config":        {with(func(_ *layout, cfg, _ object) { cfg["x"] = strings.Repeat("x", 3<<20) }), core.KindTooLarge, core.CodeTooLarge, "config"},
		"config is no object": {with(func(l *layout, _, m object) { m["config"] = l.blob([]byte(`"x"`), ociConfig) }), core.KindInvalid, core.CodeInvalid, "config of bad:1"},
		"json bomb":           {with(func(l *layout, _, m object) { m["config"] = l.blob(bytes.Repeat([]byte("["), 1<<20), ociConfig) }), core.KindInvalid, core.CodeInvalid, "config of bad:1"},
		"index bomb":          {indexBomb(t), core.KindTooLarge, core.CodeTooLarge, "more than 1000"},
		"deep index":          {deepIndex(t), core.KindInvalid, core.CodeInvalid, "indexes within indexes"},
		"index media type":    {mediaType(t, "application/vnd.wasm"), core.KindInvalid, core.ReasonImageUnsupported, "vnd.wasm"},
		"bad name":            {simple(t, "Not A Name", good), core.KindInvalid, core.CodeInvalid, "Not A Name"},
		"long name":           {simple(t, strings.Repeat("x", 1000), good), core.KindInvalid, core.CodeInvalid, "1000 bytes"},
		"layer, dotdot":       {layerOf(plainLayer(t, entry{name: "../../../evil", body: "x"})), core.KindInvalid, core.CodeInvalid, "layer 1 of 1"},
		"layer, truncated":    {layerOf(layer{zip.blob[:len(zip.blob)-4], zip.media, good.plain}), core.KindInvalid, core.CodeInvalid, "gzip stream is damaged"},
		"layer, trailing":     {layerOf(layer{append(slices.Clone(zip.blob), "trailing garbage"...), zip.media, good.plain}), core.KindInvalid, core.CodeInvalid, "something else after it"},
		"layer, checksum":     {layerOf(layer{flip(zip.blob, len(zip.blob)-6), zip.media, good.plain}), core.KindInvalid, core.CodeInvalid, "gzip stream is damaged"},
		"layer, cut tar":      {layerOf(layer{good.plain[:300], ociLayer, good.plain[:300]}), core.KindInvalid, core.CodeInvalid, "cut short"},
		"layer, garbage":      {layerOf(layer{bytes.Repeat([]byte("x"), 2000), ociLayer, bytes.Repeat([]byte("x"), 2000)}), core.KindInvalid, core.CodeInvalid, "damaged"},
		"gzip bomb":           {layerOf(bomb(t, gzipped)), core.KindTooLarge, core.CodeTooLarge, "decompression bomb"},
		"zstd bomb":           {layerOf(bomb(t, zstded)), core.KindTooLarge, core.CodeTooLarge, "decompression bomb"},
		"gzip bomb around":    {gzipped(t, tarOf(t, entry{name: "zeros", body: strings.Repeat("\x00", 64<<20)})), core.KindTooLarge, core.CodeTooLarge, ""},
		"zstd bomb around":    {zstded(t, tarOf(t, entry{name: "zeros", body: strings.Repeat("\x00", 64<<20)})), core.KindTooLarge, core.CodeTooLarge, ""},
		"large layer":         {layerOf(plainLayer(t, entry{name: "f", body: strings.Repeat("xyz", 9<<20/3)})), core.KindTooLarge, core.CodeTooLarge, "larger than 8MiB"},
		"many entries":        {layerOf(plainLayer(t, slices.Repeat([]entry{{name: "f"}}, 1001)...)), core.KindTooLarge, core.CodeTooLarge, "more than 1000 entries"},
		"large image":         {simple(t, "x", random(t, 1), random(t, 2), random(t, 3)), core.KindTooLarge, core.CodeTooLarge, "larger than 16MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dir := open(t, image.Options{MaxLayer: 8 * core.MiB, MaxImage: 16 * core.MiB, MaxEntries: 1000})
			image.SetRatioFrom(s, 1<<20)
			before := tree(t, dir)
			_, err := s.Load(t.Context(), bytes.NewReader(c.data))
			e, ok := errors.AsType[*core.Error](err)
			if !ok || e.Kind != c.kind || e.Code != c.code || !strings.Contains(e.Message, c.says) {
				t.Fatalf("got %v", err)
			}
			if after := tree(t, dir); !slices.Equal(before, after) {
				t.Errorf("left behind: %v", after)
			}
		})
	}
}

func flip(data []byte, at int) []byte {
	out := slices.Clone(data)
	out[at] ^= 1
	return out
}

// bomb is 7 MiB of zeros in a small layer.
func bomb(t testing.TB, compress func(testing.TB, []byte) []byte) layer {
	l := plainLayer(t, entry{name: "zeros", body: strings.Repeat("\x00", 7<<20)})
	l.blob = compress(t, l.plain)
	return l
}

// random is 6 MiB of text that compresses to a little over the half.
func random(t testing.TB, seed uint64) layer {
	r := rand.New(rand.NewPCG(seed, seed))
	text := make([]byte, 6<<20)
	for i := range text {
		text[i] = "0123456789abcdef"[r.IntN(16)]
	}
	l := plainLayer(t, entry{name: "f", body: string(text)})
	l.blob, l.media = gzipped(t, l.plain), ociLayer+"+gzip"
	return l
}

func indexBomb(t testing.TB) []byte {
	l := &layout{t: t}
	one := plainLayer(t, entry{name: "f"})
	at := l.image(config(runtime.GOARCH, one), one)
	for range 3 {
		at = l.json(object{"manifests": slices.Repeat([]any{at}, 100)}, ociIndex)
	}
	l.name(at, "bomb")
	return l.tar()
}

func deepIndex(t testing.TB) []byte {
	l := &layout{t: t}
	one := plainLayer(t, entry{name: "f"})
	at := l.image(config(runtime.GOARCH, one), one)
	for range 10 {
		at = l.json(object{"manifests": []any{at}}, ociIndex)
	}
	l.name(at, "deep")
	return l.tar()
}

func mediaType(t testing.TB, media string) []byte {
	l := &layout{t: t}
	l.name(l.blob([]byte("{}"), media), "x")
	return l.tar()
}

func TestLoadStopsAtAFullDisk(t *testing.T) {
	t.Parallel()
	s, dir := open(t, image.Options{MinFree: 1 << 60})
	before := tree(t, dir)
	_, err := s.Load(t.Context(), bytes.NewReader(simple(t, "x", plainLayer(t, entry{name: "f", body: "x"}))))
	if e := core.AsError(err); e.Kind != core.KindUnavailable || e.Code != core.ReasonDiskFull {
		t.Fatalf("got %v", err)
	}
	if after := tree(t, dir); !slices.Equal(before, after) {
		t.Errorf("left behind: %v", after)
	}
}

// A load that goes wrong keeps what was there.
func TestLoadAllOrNothing(t *testing.T) {
	t.Parallel()
	s, dir := open(t, image.Options{})
	good, bad := plainLayer(t, entry{name: "good"}), plainLayer(t, entry{name: "bad"})
	load(t, s, simple(t, "hello", good))
	before := tree(t, dir)
	lie := bad
	lie.plain = []byte("lie")
	l := &layout{t: t}
	fresh := plainLayer(t, entry{name: "fresh"})
	l.name(l.image(config(runtime.GOARCH, fresh), fresh), "hello")
	l.name(l.image(config(runtime.GOARCH, lie), lie), "other")
	if _, err := s.Load(t.Context(), bytes.NewReader(l.tar())); !core.IsKind(err, core.KindInvalid) {
		t.Fatalf("got %v", err)
	}
	if after := tree(t, dir); !slices.Equal(before, after) {
		t.Errorf("left behind: %v", after)
	}
}
