package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/docker/pid1"
)

// minVersion is the oldest API of the engine that has all we ask for: that of
// Docker 20.10.
const minVersion = "1.41"

// The labels of all that a driver makes in an engine.
const (
	labelData     = "io.dayfly.data"     // which data directory it belongs to
	labelInstance = "io.dayfly.instance" // of a container: which instance it is
)

// initDir is where containers find init. /dev is a file system that the
// runtime makes itself, so that nothing an image has there is in the way.
const initDir = "/dev/dayfly"

// patience is how long the engine may take for one thing.
const patience = 2 * time.Minute

// engine is a Docker engine, and what is ours in it.
type engine struct {
	api  *client.Client
	name string // of all that is ours: dayfly- and the id of the data directory
	arch string
	init string // name of the image, and of the volume, that holds init
	// filter is the profile of system calls. It is that of sandboxes and not the
	// engine's: older ones let sockets to the machine's hypervisor through.
	filter string
	log    *slog.Logger
}

// dial connects to the engine at a host, "" for DOCKER_HOST or else the usual
// socket, and makes sure that it is not too old.
func dial(ctx context.Context, host string) (*client.Client, string, error) {
	opts := []client.Opt{client.WithTLSClientConfigFromEnv(), client.WithHostFromEnv(), client.WithUserAgent("dayfly")}
	if host != "" {
		opts = append(opts, client.WithHost(host))
	}
	api, err := client.New(opts...)
	if err != nil {
		return nil, "", core.Invalid("the Docker engine cannot be reached at %q: %v", host, err)
	}
	at := api.DaemonHost()
	ping, err := api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if err == nil && versions.LessThan(ping.APIVersion, minVersion) {
		err = core.Errorf(core.KindUnavailable, core.CodeUnavailable,
			"the Docker engine at %s has the API %s, and %s is needed: use Docker 20.10 or newer", at, ping.APIVersion, minVersion)
	} else if err == nil && ping.OSType != "linux" {
		err = core.Errorf(core.KindUnavailable, core.CodeUnavailable,
			"the Docker engine at %s runs containers of %s, and functions need those of Linux", at, ping.OSType)
	} else if err != nil {
		err = core.Unavailable(core.CodeUnavailable, err,
			"there is no Docker engine at %s that answers: start it, name another with --docker-host, or check the permission to use its socket", at)
	}
	if err != nil {
		return nil, at, errors.Join(err, api.Close())
	}
	return api, at, nil
}

// Find gives the version of the API of the engine at a host, as dial finds it.
func Find(ctx context.Context, host string) (version string, err error) {
	api, _, err := dial(ctx, host)
	if err != nil {
		return "", err
	}
	return api.ClientVersion(), api.Close()
}

// dataID gives what tells this data directory from others that use the same
// engine, also from other machines. It is made once.
func dataID(dir string) (string, error) {
	file := filepath.Join(dir, "id")
	b, err := os.ReadFile(file)
	if err == nil && len(b) == 16 {
		return string(b), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the id of the data directory: %w", err)
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	id := hex.EncodeToString(random[:])
	if err := os.WriteFile(file+".new", []byte(id), 0o600); err != nil {
		return "", fmt.Errorf("write the id of the data directory: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return "", fmt.Errorf("write the id of the data directory: %w", err)
	}
	return id, nil
}

func (e *engine) labels() map[string]string { return map[string]string{labelData: e.name} }

func (e *engine) ours() client.Filters {
	return client.Filters{}.Add("label", labelData+"="+e.name)
}

// sweep removes what a server that was killed has left. Its containers have
// ended with it, but for one that was being started.
func (e *engine) sweep(ctx context.Context) error {
	list, err := e.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: e.ours()})
	if err != nil {
		return fmt.Errorf("list what is left in the Docker engine: %w", err)
	}
	for _, c := range list.Items {
		if err := e.remove(ctx, c.ID); err != nil {
			return fmt.Errorf("remove a container that a former server has left: %w", err)
		}
	}
	volumes, err := e.api.VolumeList(ctx, client.VolumeListOptions{Filters: e.ours()})
	if err != nil {
		return fmt.Errorf("list what is left in the Docker engine: %w", err)
	}
	for _, v := range volumes.Items {
		if _, err := e.api.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{}); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove a volume that a former server has left: %w", err)
		}
	}
	networks, err := e.api.NetworkList(ctx, client.NetworkListOptions{Filters: e.ours()})
	if err != nil {
		return fmt.Errorf("list what is left in the Docker engine: %w", err)
	}
	for _, n := range networks.Items {
		if err := e.removeNetwork(ctx, n.ID); err != nil {
			return fmt.Errorf("remove a network that a former server has left: %w", err)
		}
	}
	images, err := e.api.ImageList(ctx, client.ImageListOptions{Filters: e.ours()})
	if err != nil {
		return fmt.Errorf("list what is left in the Docker engine: %w", err)
	}
	for _, i := range images.Items {
		if _, err := e.api.ImageRemove(ctx, i.ID, client.ImageRemoveOptions{Force: true}); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove an image that a former server has left: %w", err)
		}
	}
	return nil
}

// removeNetwork removes a network. The engine lets go of a container's endpoint a
// moment after it has said that the container is gone, and sometimes not at all:
// then it is told to.
func (e *engine) removeNetwork(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, 40*lookAgain)
	defer cancel()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		_, err := e.api.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
		if err == nil || errdefs.IsNotFound(err) {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("remove a network of the Docker engine: %w", err)
		}
		res, ierr := e.api.NetworkInspect(ctx, id, client.NetworkInspectOptions{})
		if ierr != nil {
			continue
		}
		for _, end := range res.Network.Containers {
			_, _ = e.api.NetworkDisconnect(ctx, id, client.NetworkDisconnectOptions{Container: end.Name, Force: true})
		}
	}
}

// remove kills a container and returns when it is gone.
func (e *engine) remove(ctx context.Context, id string) error {
	_, err := e.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	if errdefs.IsConflict(err) { // the engine is about to, since it has ended
		return e.awaitRemoval(ctx, id)
	}
	return fmt.Errorf("remove a container of the Docker engine: %w", err)
}

// lookAgain is how long to wait for word of a removal before looking whether
// the container is still there: engines lose such words when they ask and
// answer at the same moment.
const lookAgain = 250 * time.Millisecond

// awaitRemoval returns when the engine has removed a container that has ended.
func (e *engine) awaitRemoval(ctx context.Context, id string) error {
	for {
		removed, err := e.hearRemoval(ctx, id)
		if removed || err != nil {
			return err
		}
		_, err = e.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		switch {
		case errdefs.IsNotFound(err):
			return nil
		case err != nil:
			return fmt.Errorf("look whether a container is gone: %w", err)
		}
	}
}

func (e *engine) hearRemoval(ctx context.Context, id string) (bool, error) {
	short, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	w := e.api.ContainerWait(short, id, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	select {
	case <-w.Result:
		return true, nil
	case err := <-w.Error:
		if short.Err() != nil && ctx.Err() == nil {
			return false, nil
		}
		if err == nil || errdefs.IsNotFound(err) {
			return true, nil
		}
		return false, fmt.Errorf("wait until a container is gone: %w", err)
	}
}

// bringInit puts init into a volume of the engine, which all containers mount:
// by way of an image of nothing else, from which the engine fills a volume that
// is empty. So it gets to an engine on another machine as well.
func (e *engine) bringInit(ctx context.Context) error {
	program := pid1.Program(e.arch)
	if program == nil {
		return core.Errorf(core.KindUnavailable, core.CodeUnavailable,
			"the Docker engine runs on %s; there are amd64 and arm64", e.arch)
	}
	archive, err := initArchive(program)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(program)
	e.init = e.name + "-init-" + hex.EncodeToString(sum[:4])
	res, err := e.api.ImageImport(ctx, client.ImageImportSource{Source: bytes.NewReader(archive), SourceName: "-"}, e.init,
		client.ImageImportOptions{Changes: []string{"LABEL " + labelData + "=" + e.name}})
	if err != nil {
		return fmt.Errorf("bring the init of containers into the Docker engine: %w", err)
	}
	_, err = io.Copy(io.Discard, res)
	if err = errors.Join(err, res.Close()); err != nil {
		return fmt.Errorf("bring the init of containers into the Docker engine: %w", err)
	}
	if _, err := e.api.VolumeCreate(ctx, client.VolumeCreateOptions{Name: e.init, Labels: e.labels()}); err != nil {
		return fmt.Errorf("make the volume of the containers' init: %w", err)
	}
	filler, err := e.api.ContainerCreate(ctx, client.ContainerCreateOptions{
		Config: &container.Config{Image: e.init, Entrypoint: []string{initDir + "/init"}, Labels: e.labels()},
		HostConfig: &container.HostConfig{
			NetworkMode: "none", Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: e.init, Target: initDir}},
		},
	})
	if err != nil {
		return fmt.Errorf("fill the volume of the containers' init: %w", err)
	}
	return e.remove(ctx, filler.ID)
}

func initArchive(program []byte) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	dir := strings.TrimPrefix(initDir, "/") + "/"
	for _, d := range []string{path.Dir(strings.TrimSuffix(dir, "/")) + "/", dir} {
		if err := w.WriteHeader(&tar.Header{Name: d, Mode: 0o755, Typeflag: tar.TypeDir}); err != nil {
			return nil, fmt.Errorf("pack the init of containers: %w", err)
		}
	}
	err := w.WriteHeader(&tar.Header{Name: dir + "init", Mode: 0o755, Size: int64(len(program)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = w.Write(program)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("pack the init of containers: %w", err)
	}
	return out.Bytes(), nil
}

// makeNetwork makes the bridge by which functions reach other machines where we
// cannot give them a network of ours. Containers on it do not reach each other.
func (e *engine) makeNetwork(ctx context.Context) error {
	_, err := e.api.NetworkCreate(ctx, e.name, client.NetworkCreateOptions{
		Driver: "bridge", Labels: e.labels(), Options: map[string]string{"com.docker.network.bridge.enable_icc": "false"},
	})
	if err != nil {
		return fmt.Errorf("make the network of functions in the Docker engine: %w", err)
	}
	return nil
}
