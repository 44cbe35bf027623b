package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/docker"
	"github.com/dayfly-io/dayfly/internal/drivertest"
	"github.com/dayfly-io/dayfly/internal/registrytest"
)

// api speaks to the engine beside the driver.
func api(t testing.TB, host string) *client.Client {
	t.Helper()
	c, err := client.New(client.WithHost(host))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// left gives all that is in the engine and was made by drivers.
func left(t testing.TB, host string) []string {
	t.Helper()
	c, ctx := api(t, host), context.WithoutCancel(t.Context())
	ours := client.Filters{}.Add("label", "io.dayfly.data")
	var out []string
	containers, err := c.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: ours})
	volumes, verr := c.VolumeList(ctx, client.VolumeListOptions{Filters: ours})
	networks, nerr := c.NetworkList(ctx, client.NetworkListOptions{Filters: ours})
	images, ierr := c.ImageList(ctx, client.ImageListOptions{Filters: ours})
	if err = errors.Join(err, verr, nerr, ierr); err != nil {
		t.Fatal(err)
	}
	for _, x := range containers.Items {
		out = append(out, "container "+strings.Join(x.Names, " "))
	}
	for _, x := range volumes.Items {
		out = append(out, "volume "+x.Name)
	}
	for _, x := range networks.Items {
		out = append(out, "network "+x.Name)
	}
	for _, x := range images.Items {
		out = append(out, "image "+strings.Join(x.RepoTags, " "))
	}
	return out
}

// closesWithoutTrace: what a driver has made in an engine goes with it, and what
// others have made stays.
func closesWithoutTrace(t *testing.T, host string) {
	for name, at := range map[string]string{"on this machine": host, "elsewhere": far(t, host)} {
		before := left(t, host)
		d := open(t, at)
		if now := left(t, host); len(now) <= len(before) {
			t.Errorf("%s: an open driver has %q in the engine", name, now)
		}
		spec := drivertest.Spec(load(d)(t, drivertest.Tar(t, drivertest.Base(t, drivertest.Misbehave))), "sleep", "slept")
		spec.Network = core.NetworkEgress
		p := drivertest.Start(t, d, spec, nil)
		p.Out.Await(t, "slept")
		closeDriver(t, d)
		if now := left(t, host); !slices.Equal(now, before) {
			t.Errorf("%s: after Close there is %q, before there was %q", name, now, before)
		}
		if exit := p.Wait(); exit.Signal != 9 {
			t.Errorf("%s: with Close the instance ended with %+v", name, exit)
		}
	}
}

// sweepsOnlyItsOwn: what the driver of another data directory runs, also by the
// name of the same directory on another machine, is left alone.
func sweepsOnlyItsOwn(t *testing.T, host string) {
	first := open(t, host)
	spec := drivertest.Spec(load(first)(t, drivertest.Tar(t, drivertest.Base(t, drivertest.Misbehave))), "serve", "127.0.0.1:8080")
	p := drivertest.Start(t, first, spec, nil)
	p.Out.Await(t, "listening")
	second := open(t, host)
	closeDriver(t, second)
	c, err := first.Dial(drivertest.Context(t), p.ID, 8080)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if got := drivertest.Get(t, c, "/"); got != "hello" {
		t.Errorf("after another driver came and went it answers %q", got)
	}
}

// sweepsWhatIsLeft: the next Open of the same directory removes all that is left.
func sweepsWhatIsLeft(t *testing.T, host string) {
	dir := t.TempDir()
	d := openIn(t, host, dir)
	id, err := os.ReadFile(filepath.Join(dir, "id"))
	if err != nil {
		t.Fatal(err)
	}
	// A container that was made and not started yet.
	c := api(t, host)
	name := "dayfly-" + string(id) + "-left"
	_, err = c.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: name, Config: leftover(string(id), initImage(t, c, string(id)))})
	if err != nil {
		t.Fatal(err)
	}
	again := openIn(t, host, dir) // the first is taken for dead
	for _, what := range left(t, host) {
		if strings.Contains(what, name) {
			t.Errorf("%s is still there", what)
		}
	}
	closeDriver(t, again)
	closeDriver(t, d)
}

// hidesSecrets: what a function is given is not told by the engine.
func hidesSecrets(t *testing.T, host string) {
	d := open(t, host)
	spec := drivertest.Spec(load(d)(t, drivertest.Tar(t, drivertest.Base(t, drivertest.Misbehave))), "sleep", "slept")
	spec.Env = []string{"TOKEN=mayflies-live-for-a-day"}
	p := drivertest.Start(t, d, spec, nil)
	p.Out.Await(t, "slept")
	c := api(t, host)
	list, err := c.ContainerList(t.Context(), client.ContainerListOptions{Filters: client.Filters{}.Add("label", "io.dayfly.instance="+spec.ID.String())})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("the container of the instance: %v, %v", list.Items, err)
	}
	res, err := c.ContainerInspect(t.Context(), list.Items[0].ID, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(res.Raw, []byte("mayflies-live-for-a-day")) {
		t.Errorf("the engine tells the function's environment: %s", res.Raw)
	}
	h := res.Container.HostConfig
	if h.Privileged || !h.ReadonlyRootfs || !slices.Equal(h.CapDrop, []string{"ALL"}) || len(h.CapAdd) > 0 || len(h.PortBindings) > 0 || len(h.Binds) > 0 ||
		!slices.Contains(h.SecurityOpt, "no-new-privileges") || h.NetworkMode != "none" || h.Memory != h.MemorySwap || h.Memory <= 0 {
		t.Errorf("the container has more than it should: %+v", h)
	}
}

// refusesEscapes tries the ways out that are tried of sandboxes. Those of
// reading what is the container's own anyway are no escapes.
func refusesEscapes(t *testing.T, host string) {
	d := open(t, host)
	for _, user := range []string{"", "app"} {
		config := drivertest.Misbehave
		config.User = user
		spec := drivertest.Spec(load(d)(t, drivertest.Tar(t, drivertest.Base(t, config))), "escape")
		spec.Memory, spec.Network = 128*core.MiB, core.NetworkEgress
		p := drivertest.Start(t, d, spec, strings.NewReader("a stdin"))
		got := map[string]string{}
		p.JSON(&got)
		if len(got) < 90 {
			t.Errorf("only %d escapes were tried", len(got))
		}
		for name, refusal := range got {
			if refusal == "" && (user != "" || !slices.Contains(harmless, name)) {
				t.Errorf("user %q: %s works", user, name)
			}
		}
	}
}

// harmless are those by which root in a container does something to the
// container's own init alone: it is the same user. Init ends for it at worst, and
// the instance with it.
var harmless = []string{
	"files of init", "stack of init", "write /proc/1/oom_score_adj", "write /proc/1/coredump_filter", "write /proc/1/clear_refs",
}

// pulls: the engine pulls from a registry, with the user's credentials, and a
// version stays with what its name meant.
func pulls(t *testing.T, host string) {
	r := registrytest.Start(t, registrytest.Options{Password: true})
	d := open(t, host)
	ctx := drivertest.Context(t)
	images := d.Images(keychain{r.Host: {User: registrytest.User, Password: registrytest.Password}})
	ref := r.Host + "/shop/resize:1"
	push(t, host, load(d)(t, drivertest.Tar(t, drivertest.Base(t, core.ImageConfig{Entrypoint: []string{"/misbehave", "exit", "3"}}))), ref, r.Host)
	if _, err := d.Images(nil).Resolve(ctx, ref); core.AsError(err).Code != core.ReasonImagePullFailed && core.AsError(err).Code != core.ReasonImageNotFound {
		t.Errorf("without credentials it is %v", err)
	}
	digest, err := images.Resolve(ctx, ref)
	if err != nil || !strings.HasPrefix(digest, "sha256:") {
		t.Fatalf("the registry tells %q, %v", digest, err)
	}
	removeAll(t, host, ref)
	if _, err := images.Image(ctx, digest); core.AsError(err).Code != core.ReasonImageNotFound {
		t.Fatalf("before the pull it is %v", err)
	}
	image, err := images.Pull(ctx, core.ImageAt(ref, digest), func(core.PullProgress) {})
	if err != nil {
		t.Fatal(err)
	}
	if image.Digest != digest || image.Source != r.Host+"/shop/resize" || len(image.Config.Entrypoint) != 3 {
		t.Errorf("what was pulled is %+v, want the digest %s", image, digest)
	}
	spec := drivertest.Spec(digest)
	spec.Command = nil
	p := drivertest.Start(t, d, spec, nil)
	p.Code(3)
	p.Stop(0)
	if _, err := images.Pull(ctx, r.Host+"/shop/none:1", nil); core.AsError(err).Code != core.ReasonImageNotFound {
		t.Errorf("what the registry does not have is %v", err)
	}
	away := "127.0.0.1:1/shop/resize:1"
	if _, err := images.Pull(ctx, away, nil); !core.IsKind(err, core.KindUnavailable) || core.AsError(err).Code != core.ReasonImagePullFailed {
		t.Errorf("a registry that is away is %v", err)
	}
	if pruned, err := images.Prune(ctx, core.ImageLimits{Space: 1}, func(core.Image) bool { return false }); err != nil || len(pruned.Images) != 0 {
		t.Errorf("what was just used goes: %+v, %v", pruned, err)
	}
	if err := images.Remove(ctx, digest); err != nil {
		t.Errorf("remove it: %v", err)
	}
	if _, err := images.Image(ctx, digest); core.AsError(err).Code != core.ReasonImageNotFound {
		t.Errorf("after it was removed it is %v", err)
	}
	spec.ID = drivertest.NextID()
	if _, err := d.Start(ctx, spec, core.Stdio{}); core.AsError(err).Code != core.ReasonImageNotFound {
		t.Errorf("a start after that is %v", err)
	}
}

type keychain map[string]core.RegistryCredentials

func (k keychain) Credentials(_ context.Context, repository string) (core.RegistryCredentials, error) {
	host, _, _ := strings.Cut(repository, "/")
	return k[host], nil
}

// An engine that is too old, is none, or is not there is refused in words.
func TestEnginesThatAreRefused(t *testing.T) {
	t.Parallel()
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Api-Version", "1.40")
		w.Header().Set("Ostype", "linux")
		_, _ = io.WriteString(w, "OK")
	}))
	defer old.Close()
	windows := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Api-Version", "1.45")
		w.Header().Set("Ostype", "windows")
		_, _ = io.WriteString(w, "OK")
	}))
	defer windows.Close()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	deaf := l.Addr().String()
	_ = l.Close()
	for name, test := range map[string]struct {
		host string
		says []string
	}{
		"too old":   {"tcp://" + old.Listener.Addr().String(), []string{"1.40", "1.41", "20.10"}},
		"windows":   {"tcp://" + windows.Listener.Addr().String(), []string{"windows", "Linux"}},
		"not there": {"tcp://" + deaf, []string{deaf, "--docker-host"}},
		"no socket": {"unix:///nowhere/docker.sock", []string{"/nowhere/docker.sock", "--docker-host"}},
		"no host":   {"nonsense", []string{"nonsense"}},
	} {
		_, err := docker.Open(t.Context(), docker.Options{Dir: t.TempDir(), Host: test.host})
		told, ok := errors.AsType[*core.Error](err)
		if !ok {
			t.Errorf("%s: the error is %v, and not one for people", name, err)
			continue
		}
		for _, word := range test.says {
			if !strings.Contains(told.Error(), word) {
				t.Errorf("%s: the error is %q and says nothing of %q", name, told.Error(), word)
			}
		}
	}
}

// push puts an image of the engine into a registry, as docker push does.
func push(t *testing.T, host, id, ref, registry string) {
	t.Helper()
	c := api(t, host)
	if _, err := c.ImageTag(t.Context(), client.ImageTagOptions{Source: id, Target: ref}); err != nil {
		t.Fatal(err)
	}
	res, err := c.ImagePush(t.Context(), ref, client.ImagePushOptions{RegistryAuth: credentials(t, registry)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Close() }()
	for in := json.NewDecoder(res); ; {
		var line struct{ Error string }
		err := in.Decode(&line)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil || line.Error != "" {
			t.Fatalf("push %s: %v %s", ref, err, line.Error)
		}
	}
}
