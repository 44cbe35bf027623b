package e2e_test

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/api"
)

// stacked writes an image of several layers, as docker save does.
func stacked(t *testing.T, name string, config map[string]any, layers ...string) string {
	t.Helper()
	var ids, names []string
	for i, path := range layers {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, f); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		ids = append(ids, "sha256:"+hexBytes(sum.Sum(nil)))
		names = append(names, string(rune('a'+i))+".tar")
	}
	meta, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": config, "rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{name}, "Layers": names}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "image.tar"))
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(out)
	add := func(name string, size int64, from io.Reader) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, from); err != nil {
			t.Fatal(err)
		}
	}
	add("manifest.json", int64(len(manifest)), strings.NewReader(string(manifest)))
	add("config.json", int64(len(meta)), strings.NewReader(string(meta)))
	for i, path := range layers {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		add(names[i], info.Size(), f)
		_ = f.Close()
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

func hexBytes(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

// kits are images made with the kits of the Fn Project, unmodified.
var kits = map[string]func(t *testing.T) string{
	"go": func(t *testing.T) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(built("kits"), "go"))
		if err != nil {
			t.Fatal(err)
		}
		f := fixture{names: []string{"kit-go:1"}, entrypoint: []string{"/func"}, files: map[string][]byte{"func": data}}
		image, _ := f.layout(t)
		return save(t, "kit-go.tar", image)
	},
	"node": func(t *testing.T) string {
		t.Helper()
		return stacked(t, "kit-node:1", map[string]any{
			"Entrypoint": []string{"node", "func.js"}, "WorkingDir": "/function", "Env": []string{"PATH=/usr/bin:/bin"},
		}, filepath.Join(built("node"), "layer.tar"), filepath.Join(built("kits"), "node.tar"))
	},
	"python": func(t *testing.T) string {
		t.Helper()
		return stacked(t, "kit-python:1", map[string]any{
			"Entrypoint": []string{"/python/bin/fdk", "/function/func.py", "handler"}, "WorkingDir": "/function",
			"Env": []string{"PATH=/usr/bin:/bin", "PYTHONPATH=/python"},
		}, filepath.Join(built("python"), "layer.tar"), filepath.Join(built("kits"), "python.tar"))
	},
}

// kitAnswer is what the functions of test/kits answer.
type kitAnswer struct {
	Text, Call, App, Function, Config, Field, Type, Method, URL string
}

func TestKitsOfTheFnProject(t *testing.T) {
	t.Parallel()
	s := shared.get(t)
	for name, image := range kits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.does(t, "image", "load", image(t))
			s.does(t, "function", "create", name, "--app", "fnproject", "--image", "kit-"+name+":1", "--contract", "fdk",
				"--memory", "128MiB", "--timeout", "15s", "--env", "OWN=mine")
			checkKit(t, s, name)
		})
	}
}

func checkKit(t *testing.T, s *server, name string) {
	t.Helper()
	target := "/f/fnproject/" + name
	send := func(body string) (answer, kitAnswer) {
		t.Helper()
		r := s.request(t.Context(), t, "PUT", target+"/a?b=c", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Own", "field")
		a := send(t, r)
		var k kitAnswer
		if a.status != http.StatusBadGateway && a.status != http.StatusGatewayTimeout {
			k = decode[kitAnswer](t, a.body)
		}
		return a, k
	}
	first, k := send(`{"text":"hello","print":"printed by the first"}`)
	first.want(t, 200)
	run := s.wantRun(t, first.run(t), api.StateSucceeded, "")
	want := kitAnswer{
		Text: "hello", Call: run.ID, App: "fnproject", Function: name, Config: "mine", Field: "field", Type: "application/json",
		Method: "PUT", URL: s.url + target + "/a?b=c",
	}
	if k != want {
		t.Errorf("it answers %+v, want %+v", k, want)
	}
	if first.header.Get("Content-Type") != "application/json" || first.header.Get("X-Answer") != "yes" || first.header.Get("Fn-Fdk-Version") != "" {
		t.Errorf("the fields of the answer are %v", first.header)
	}
	if text := s.texts(t, run.ID, ""); !slices.ContainsFunc(text, func(l string) bool { return strings.Contains(l, "printed by the first") }) ||
		slices.ContainsFunc(text, func(l string) bool { return strings.Contains(l, "DAYFLY_RUN_ID") || l == "" }) {
		t.Errorf("the log is %q", text)
	}
	second, _ := send(`{"status":418}`)
	if r := s.wantRun(t, second.want(t, 418).run(t), api.StateSucceeded, ""); r.Instance != run.Instance || r.Cold {
		t.Errorf("the second run is on another instance: %+v", r)
	}
	third, _ := send(`{"status":500,"text":"oh no"}`)
	s.wantRun(t, third.want(t, 500).run(t), api.StateFailed, "function_error")
	fails, _ := send(`{"fail":true}`)
	kept := name != "go" // where a panic leaves the call without an answer
	failed := s.wantRun(t, fails.run(t), api.StateFailed, "function_error")
	if fails.status != 502 || !slices.ContainsFunc(s.texts(t, failed.ID, ""), func(l string) bool { return strings.Contains(l, "it was told to fail") }) {
		t.Errorf("the failure is answered with %d %s, its log is %q", fails.status, fails.body, s.texts(t, failed.ID, ""))
	}
	// After the time for which a connection is kept, and after a rest.
	until(t, "the instance rests", patience, func() (time.Duration, bool) {
		d := time.Since(failed.FinishedAt)
		return d, d > 1200*time.Millisecond
	})
	last, k := send(`{"text":"` + strings.Repeat("x", 100<<10) + `"}`)
	if r := s.wantRun(t, last.want(t, 200).run(t), api.StateSucceeded, ""); len(k.Text) != 100<<10 || (r.Instance == run.Instance) != kept {
		t.Errorf("after the failure: %d bytes from %s, before it %s", len(k.Text), r.Instance, run.Instance)
	}
}
