package e2e_test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/registrytest"
)

// says makes it the image of a job that prints the words.
func (f fixture) says(words ...string) fixture {
	f.cmd = append([]string{"print"}, words...)
	return f
}

// push puts an image of misbehave into a registry, with a layer of its own so
// that no two are the same.
func push(t *testing.T, r *registrytest.Registry, name, text string) (ref, digest string) {
	t.Helper()
	f := misbehave(t, "x").says(text)
	f.compressed = true
	f.files["id"] = []byte(text)
	tar, digest := f.layout(t)
	return r.Push(t, tar, name), digest
}

// A private registry over TLS, with the credentials of docker login.
func TestPrivateRegistry(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Options{TLS: true, Password: true})
	ref, digest := push(t, r, "shop/hello:1", "from afar")
	s := start(t, options{args: []string{"--registry-ca", r.CA}, env: []string{"DOCKER_CONFIG=" + r.DockerConfig(t, registrytest.Password)}})

	// Deployed, it is pinned and not pulled; the first call pulls it.
	s.does(t, "function", "create", "hello", "--image", ref, "--contract", "job")
	wantWords(t, s.does(t, "function", "show", "hello"), digest)
	if out := s.does(t, "image", "list"); strings.Contains(out, "hello") {
		t.Errorf("deploying has pulled: %s", out)
	}
	a := s.call(t, "POST", "/f/default/hello", "").want(t, 200)
	if a.body != "from afar" {
		t.Errorf("the function says %q", a.body)
	}
	if run := s.runOf(t, a.run(t)); !run.Cold || run.Start.ImageMS <= 0 || run.Waiting != nil {
		t.Errorf("the run is %+v", run)
	}
	wantWords(t, s.does(t, "image", "show", ref), r.Host+"/shop/hello", digest, "linux/")

	// What a function has stays; by hand it may go all the same, and is pulled
	// again by its digest, whatever its name means by then.
	push(t, r, "shop/hello:1", "another")
	if r := s.cli(t, "image", "prune"); r.code != 0 || !strings.Contains(r.err, "Removed 0 images") {
		t.Errorf("pruned: %s", r)
	}
	wantWords(t, s.does(t, "image", "prune", "--all"), ref)
	if out := s.does(t, "image", "list"); strings.Contains(out, ref) {
		t.Errorf("it is there after pruning: %s", out)
	}
	if a := s.call(t, "POST", "/f/default/hello", "").want(t, 200); a.body != "from afar" {
		t.Errorf("after it was pulled again, the function says %q", a.body)
	}
	s.does(t, "image", "remove", digest)
	if a := s.call(t, "POST", "/f/default/hello", "").want(t, 200); a.body != "from afar" {
		t.Errorf("after it was removed, the function says %q", a.body)
	}

	// A new version has what the name means now. Pulling says how far it is.
	p := s.cli(t, "image", "pull", ref)
	if p.code != 0 {
		t.Fatalf("this should have worked:\n%s", p)
	}
	wantWords(t, p.err, "Pulled "+ref)
	wantWords(t, p.out, ref)
	s.deploy(t, "default", fmt.Sprintf("functions:\n  hello: {image: %q, contract: job}\n", ref))
	if a := s.call(t, "POST", "/f/default/hello", "").want(t, 200); a.body != "another" {
		t.Errorf("the new version says %q", a.body)
	}

	s.fails(t, 3, []string{"has no image", "shop/hello:9"}, "image", "pull", r.Host+"/shop/hello:9")
	s.fails(t, 3, []string{"has no image", "shop/hello:9"}, "function", "create", "none", "--image", r.Host+"/shop/hello:9")
	s.fails(t, 3, []string{"there is no image sha256:"}, "function", "create", "none", "--image", "sha256:"+strings.Repeat("ab", 32))
}

func TestRegistryThatDoesNotLetUsIn(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Options{TLS: true, Password: true})
	ref, _ := push(t, r, "shop/hello:1", "secret")
	s := start(t, options{args: []string{"--registry-ca", r.CA}, env: []string{"DOCKER_CONFIG=" + r.DockerConfig(t, "wrong")}})
	s.fails(t, 1, []string{"unauthenticated", "docker login " + r.Host}, "image", "pull", ref)
	s.fails(t, 1, []string{"unauthenticated"}, "function", "create", "f", "--image", ref)
	s.does(t, "function", "create", "f", "--image", ref, "--pull=lazy")
	s.get(t, "/f/default/f").problem(t, 502, api.ReasonImagePullFailed, "unauthenticated", "docker login")
	other := start(t, options{env: []string{"DOCKER_CONFIG=" + r.DockerConfig(t, registrytest.Password)}})
	other.fails(t, 1, []string{"certificate", "--registry-ca"}, "image", "pull", ref)
	if code := refused(t, options{args: []string{"--registry-ca", "/nowhere.pem"}}).code(); code != 1 {
		t.Errorf("with an authority that is not there the server ended with %d", code)
	}
}

// With its registry away a function is deployed, and resolved at its first
// call, once.
func TestRegistryThatIsAway(t *testing.T) {
	t.Parallel()
	f := registrytest.NewFront(t, registrytest.Start(t, registrytest.Options{}))
	ref, digest := push(t, f.Registry(), "shop/hello:1", "hello")
	f.Set(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	s := start(t, options{})
	s.does(t, "function", "create", "hello", "--image", ref, "--contract", "job")
	wantWords(t, s.does(t, "function", "show", "hello"), "unresolved")
	s.call(t, "POST", "/f/default/hello", "").problem(t, 503, api.ReasonImagePullFailed, f.Host, "502")
	f.Set(nil)
	until(t, "the registry is asked again", patience, func() (string, bool) {
		a := s.call(t, "POST", "/f/default/hello", "")
		return a.body, a.status == 200 && a.body == "hello"
	})
	wantWords(t, s.does(t, "function", "show", "hello"), digest)
	// The name means another image now. The version does not.
	push(t, f.Registry(), "shop/hello:1", "another")
	if a := s.call(t, "POST", "/f/default/hello", "").want(t, 200); a.body != "hello" {
		t.Errorf("it says %q", a.body)
	}
	s.kill()
	again := start(t, options{data: s.data})
	wantWords(t, again.does(t, "function", "show", "hello"), digest, "1, deployed")
	if a := again.call(t, "POST", "/f/default/hello", "").want(t, 200); a.body != "hello" {
		t.Errorf("after a restart it says %q", a.body)
	}
}

// What cannot be started is found out at the first call, when it was not
// before.
func TestLazyImageThatCannotRun(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Options{})
	f := misbehave(t, "x")
	f.entrypoint = nil
	tar, _ := f.layout(t)
	headless := r.Push(t, tar, "headless:1")
	f = misbehave(t, "x")
	f.arch = "s390x"
	tar, _ = f.layout(t)
	foreign := r.Push(t, tar, "foreign:1")
	s := start(t, options{})
	for name, c := range map[string]struct {
		ref   string
		words []string
	}{"headless": {headless, []string{"entrypoint", "command"}}, "foreign": {foreign, []string{"linux/s390x"}}} {
		s.does(t, "function", "create", name, "--image", c.ref, "--pull=lazy")
		s.get(t, "/f/default/"+name).problem(t, 502, api.ReasonImageUnsupported, c.words...)
	}
	s.fails(t, 1, []string{"linux/s390x"}, "image", "pull", foreign)
}

// Callers wait while the image comes, and are told how far it is; the pull is
// one, and outlasts those who do not wait for its end.
func TestCallsWaitForThePull(t *testing.T) {
	t.Parallel()
	f := registrytest.NewFront(t, registrytest.Start(t, registrytest.Options{}))
	ref, digest := push(t, f.Registry(), "shop/hello:1", "hello")
	s := start(t, options{})
	s.does(t, "function", "create", "hello", "--image", ref, "--contract", "job")
	s.does(t, "function", "create", "hasty", "--image", ref, "--contract", "job", "--timeout", "300ms")
	go1 := make(chan struct{})
	f.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		registrytest.HoldAfter(w, r, next, 400<<10, go1)
		return true
	})
	before := f.Count("GET", "/blobs/")
	var answers []<-chan answer
	for range 20 {
		answers = append(answers, later(s.request(t.Context(), t, "POST", "/f/default/hello", nil)))
	}
	run := until(t, "a run says what it waits for", patience, func() (api.Run, bool) {
		for _, r := range s.runs(t, "state=queued&function=hello") {
			if r.Waiting != nil && r.Waiting.Pull != nil && r.Waiting.Pull.BytesDone > 0 {
				return r, true
			}
		}
		return api.Run{}, false
	})
	p := run.Waiting.Pull
	if run.Waiting.For != api.WaitImage || p.Phase != api.PullDownloading || p.Percent <= 0 || p.Percent >= 100 || p.Digest != digest || p.Layers != 1 {
		t.Errorf("it waits for %+v, %+v", run.Waiting, p)
	}
	wantWords(t, s.does(t, "run", "show", run.ID), "waiting", fmt.Sprintf("image pull %d %%", p.Percent), "0 of 1 layers")
	hasty := s.call(t, "POST", "/f/default/hasty", "")
	hasty.problem(t, 503, api.ReasonImagePullFailed, "still being pulled", "image pull", "--pull")
	if hasty.header.Get("Retry-After") == "" {
		t.Error("it is not told when to call again")
	}
	// One who goes away takes nothing with it.
	first := s.runOf(t, run.ID)
	s.does(t, "run", "cancel", first.ID)
	close(go1)
	cancelled := 0
	for _, c := range answers {
		switch a := within(t, "an answer", patience, c); {
		case a.status == 200 && a.body == "hello":
		case strings.Contains(a.body, api.ReasonCancelledByUser):
			cancelled++
		default:
			t.Errorf("a call got %d %s", a.status, a.body)
		}
	}
	if cancelled != 1 {
		t.Errorf("%d calls were cancelled", cancelled)
	}
	if n := f.Count("GET", "/blobs/") - before; n != 2 {
		t.Errorf("the registry was asked for %d blobs, want config and layer", n)
	}
	until(t, "the hasty function works", patience, func() (string, bool) {
		a := s.call(t, "POST", "/f/default/hasty", "")
		return a.body, a.status == 200
	})
}

// kill -9 in the middle of a pull: no half of an image is seen, and the next
// server goes on where the download was.
func TestKillDuringPull(t *testing.T) {
	t.Parallel()
	f := registrytest.NewFront(t, registrytest.Start(t, registrytest.Options{}))
	ref, digest := push(t, f.Registry(), "shop/hello:1", "hello")
	const held = 700 << 10
	s := start(t, options{})
	s.does(t, "function", "create", "hello", "--image", ref, "--contract", "job")
	f.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		registrytest.HoldAfter(w, r, next, held, r.Context().Done())
		return true
	})
	pulling := s.command(t, nil, "image", "pull", ref)
	progress, err := pulling.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := pulling.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(progress)
	for lines.Scan() && !strings.Contains(lines.Text(), "Downloading: 20%") && !strings.Contains(lines.Text(), "Downloading: 30%") && !strings.Contains(lines.Text(), "Downloading: 40%") {
	}
	part := filepath.Join(s.data, "images", "spool")
	until(t, "all that was sent is there", patience, func() (int64, bool) {
		n := spooled(t, part)
		return n, n == held
	})
	s.kill()
	if err := pulling.Wait(); err == nil {
		t.Error("the pull ended well")
	}
	f.Set(nil)
	again := start(t, options{data: s.data})
	if out := again.does(t, "image", "list"); strings.Contains(out, "hello") {
		t.Errorf("half an image is there: %s", out)
	}
	again.fails(t, 3, []string{"there is no image"}, "image", "show", digest)
	if a := again.call(t, "POST", "/f/default/hello", "").want(t, 200); a.body != "hello" {
		t.Errorf("it says %q", a.body)
	}
	if n := f.Count("/blobs/", fmt.Sprintf("bytes=%d-", held)); n != 1 {
		t.Errorf("it did not go on where it was: %v", f.Seen())
	}
	if n := spooled(t, part); n != 0 {
		t.Errorf("%d bytes are left in the spool", n)
	}
}

func spooled(t *testing.T, dir string) (n int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
	}
	return n
}

// kill -9 at any moment of pulls leaves a server that works.
func TestKillAtAnyMomentOfPulls(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Options{})
	var refs []string
	for i := range 4 {
		ref, _ := push(t, r, fmt.Sprintf("shop/f%d:1", i), fmt.Sprintf("function %d", i))
		refs = append(refs, ref)
	}
	data := filepath.Join(t.TempDir(), "data")
	for round := range 4 {
		s := start(t, options{data: data})
		var group sync.WaitGroup
		begun := make(chan struct{}, len(refs))
		for _, ref := range refs {
			cmd := s.command(t, nil, "image", "pull", ref)
			group.Go(func() {
				begun <- struct{}{}
				_ = cmd.Run() // it may well fail: its server is killed
			})
		}
		<-begun
		// At some layer's unpacking, download or rename: each round sees another.
		until(t, "something has begun", patience, func() (int, bool) {
			n := 0
			for _, dir := range []string{"spool", "tmp", "layers", "images"} {
				entries, _ := os.ReadDir(filepath.Join(data, "images", dir))
				n += len(entries)
			}
			return n, n > round
		})
		s.kill()
		group.Wait()
	}
	s := start(t, options{data: data})
	for i, ref := range refs {
		s.does(t, "function", "create", fmt.Sprintf("f%d", i), "--image", ref, "--contract", "job")
		if a := s.call(t, "POST", fmt.Sprintf("/f/default/f%d", i), "").want(t, 200); a.body != fmt.Sprintf("function %d", i) {
			t.Errorf("function %d says %q", i, a.body)
		}
	}
}
