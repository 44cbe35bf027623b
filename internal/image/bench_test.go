package image_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/dayfly-io/dayfly/internal/image"
	"github.com/dayfly-io/dayfly/internal/image/registry"
	"github.com/dayfly-io/dayfly/internal/registrytest"
)

// mixed is a layer like that of a language runtime: about 250 MB in 14,000
// files, most of them small, half as large when compressed.
func mixed(b *testing.B) []byte {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	words := make([]byte, 1<<20)
	for i := range words {
		words[i] = "etaoin shrdlu\n(){}"[r.IntN(18)]
	}
	for i := 0; i < len(words); i += 64 { // repeats, as text and code have
		copy(words[i:], words[:r.IntN(40)])
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := 0; out.Len() < 250_000_000; i++ {
		size := r.IntN(8 << 10)
		switch {
		case i%1000 == 0:
			size = 8<<20 + r.IntN(4<<20)
		case i%20 == 0:
			size = r.IntN(200 << 10)
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("usr/lib/d%d/f%d", i/40, i), Mode: 0o644, Size: int64(size)}
		if i%40 == 0 {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("usr/lib/d%d/", i/40), Mode: 0o755}); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.WriteHeader(h); err != nil {
			b.Fatal(err)
		}
		for left := size; left > 0; {
			from := r.IntN(len(words) - 1)
			n, err := w.Write(words[from:min(len(words), from+left)])
			if err != nil {
				b.Fatal(err)
			}
			left -= n
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// compressions of a benchmark's layer.
func variants(b *testing.B, data []byte) map[string]layer {
	return map[string]layer{
		"plain": {blob: data, media: ociLayer, plain: data},
		"gzip":  {blob: gzipped(b, data), media: ociLayer + "+gzip", plain: data},
		"zstd":  {blob: zstded(b, data), media: ociLayer + "+zstd", plain: data},
	}
}

// BenchmarkUnpack takes a layer from its blob on disk to its directory: read,
// decompress, verify, write files.
func BenchmarkUnpack(b *testing.B) {
	for name, l := range variants(b, mixed(b)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(l.plain)))
			parent := b.TempDir()
			s, _ := open(b, image.Options{})
			blob := filepath.Join(parent, "blob")
			if err := os.WriteFile(blob, l.blob, 0o600); err != nil {
				b.Fatal(err)
			}
			id := digestOf(l.plain)
			for i := 0; b.Loop(); i++ {
				// Never where something was removed: ext4 is slow there.
				if err := image.UnpackLayer(b.Context(), s, blob, id, filepath.Join(parent, fmt.Sprint(i))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLoad is all of a load: spool, verify, unpack, sync.
func BenchmarkLoad(b *testing.B) {
	for name, l := range variants(b, mixed(b)) {
		tar := simple(b, "bench", l)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(l.plain)))
			parent := b.TempDir()
			for i := 0; b.Loop(); i++ {
				s, err := image.Open(b.Context(), filepath.Join(parent, fmt.Sprint(i)), image.Options{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Load(b.Context(), bytes.NewReader(tar)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(l.plain))/float64(len(l.blob)), "ratio")
		})
	}
}

// BenchmarkPull is all of a pull of three layers from a registry on this
// machine: download, verify, unpack, sync.
func BenchmarkPull(b *testing.B) {
	r := registrytest.Start(b, registrytest.Options{})
	data := mixed(b)
	var layers []layer
	for _, text := range []string{"a", "b", "c"} {
		plain := append(bytes.Clone(data[:len(data)-1024]), tarOf(b, entry{name: "id", body: text})...)
		layers = append(layers, layer{gzipped(b, plain), ociLayer + "+gzip", plain})
	}
	ref := r.Push(b, simple(b, "bench", layers...), "bench:1")
	b.SetBytes(int64(3 * len(data)))
	parent := b.TempDir()
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		s, err := image.Open(b.Context(), filepath.Join(parent, fmt.Sprint(i)), image.Options{Registries: registry.Options{Keychain: keys{}}})
		if err != nil {
			b.Fatal(err)
		}
		pull(b, s, ref)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRootfs is what each cold start asks for.
func BenchmarkRootfs(b *testing.B) {
	s, _ := open(b, image.Options{})
	got := load(b, s, simple(b, "bench", plainLayer(b, entry{name: "f"})))[0]
	for b.Loop() {
		r, err := s.Acquire(b.Context(), got.Digest)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.User(r, "65534"); err != nil {
			b.Fatal(err)
		}
		s.Release(r.Digest)
	}
}
