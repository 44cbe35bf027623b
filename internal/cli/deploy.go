package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/client"
	"github.com/dayfly-io/dayfly/internal/build"
	"github.com/dayfly-io/dayfly/internal/manifest"
)

func (s *session) deployCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deploy [DIR]",
		Short: "Build and deploy what a dayfly.yaml says",
		Long: `Read the dayfly.yaml of a directory (the present one unless DIR names another),
build the functions that are built from source, send their images to the server
and deploy every function. Nothing is deployed when one of them does not build.
A function that has not changed keeps its version.

An image that is named and not built is asked for at its registry, and pulled
when the function is first called; a registry that does not answer is asked then.
With --pull the server pulls it now; with --pull=lazy nothing is asked now.

The app is the one of --app, else of the file, else of DAYFLY_APP.`,
		Args: names("[DIR]"),
	}
	asJSON := jsonFlag(cmd)
	when := pullFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkPull(cmd, *when); err != nil {
			return err
		}
		dir := "."
		if len(args) > 0 {
			dir = args[0]
		}
		file, err := manifest.Read(dir)
		if err != nil {
			return err
		}
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		d := &deployment{session: s, client: c, dir: dir, file: file, images: map[string]*build.Image{}, tags: map[string]string{}, pull: *when}
		d.app = d.appOf()
		done, err := d.run(cmd.Context())
		if err := errors.Join(err, d.close()); err != nil {
			return err
		}
		list := api.List[api.Function]{Items: done}
		if *asJSON {
			return printList(s, true, list, nil, nil)
		}
		return printList(s, false, list, []string{"FUNCTION", "VERSION", "URL"}, func(f api.Function) []string {
			return []string{f.App + "/" + f.Name, strconv.Itoa(f.Version), c.FunctionURL(f.App, f.Name)}
		})
	}
	return cmd
}

// deployment is one deploying of a manifest.
type deployment struct {
	*session
	client *client.Client
	dir    string
	app    string
	file   *manifest.File
	images map[string]*build.Image // built, by function
	// tags are the entity tags that the functions had when the deploying
	// began, by function; one that was not there has none.
	tags map[string]string
	pull string // when images are pulled: pullNow, pullLazy or ""
}

// When the image of a function is pulled. Otherwise it is asked for now, and
// pulled at the first call.
const (
	pullNow  = "now"
	pullLazy = "lazy"
)

// pullFlag adds --pull.
func pullFlag(cmd *cobra.Command) *string {
	when := cmd.Flags().String("pull", "", "`WHEN` to pull an image that is not built here: now (default: at the first call), or lazy")
	cmd.Flags().Lookup("pull").NoOptDefVal = pullNow
	return when
}

func checkPull(cmd *cobra.Command, when string) error {
	if when != "" && when != pullNow && when != pullLazy {
		return usageError(cmd, "--pull=%s is not known: write --pull, --pull=now or --pull=lazy", when)
	}
	return nil
}

func (d *deployment) appOf() string {
	if d.session.app == "" && d.file.App != "" {
		return d.file.App
	}
	return d.appOr(api.DefaultApp)
}

// run builds everything, and deploys when all of it could be built.
func (d *deployment) run(ctx context.Context) ([]api.Function, error) {
	if err := d.look(ctx); err != nil {
		return nil, err
	}
	if err := d.build(ctx); err != nil {
		return nil, err
	}
	if err := d.pullAll(ctx); err != nil {
		return nil, err
	}
	var done []api.Function
	for _, name := range d.file.Names() {
		ref := d.file.Functions[name].Image
		if image := d.images[name]; image != nil {
			var err error
			if ref, err = d.upload(ctx, name, image); err != nil {
				return done, err
			}
		}
		f, err := d.put(ctx, name, ref)
		if err != nil {
			return done, err
		}
		d.sayUnresolved(f)
		done = append(done, f)
	}
	return done, nil
}

// sayUnresolved tells of a function whose image is yet to be found: it may
// have been misspelt.
func (s *session) sayUnresolved(f api.Function) {
	if f.Unresolved {
		s.chat("The image %s is not on the server, and its registry was not asked or does not answer: the first call of %s/%s looks for it.", f.Image, f.App, f.Name)
	}
}

// pullAll has the server pull the images that are not built, if that was
// asked for.
func (d *deployment) pullAll(ctx context.Context) error {
	if d.pull != pullNow {
		return nil
	}
	for _, name := range d.file.Names() {
		if ref := d.file.Functions[name].Image; ref != "" {
			if _, err := d.session.pull(ctx, d.client, ref); err != nil {
				return fmt.Errorf("pull the image of %s: %w", name, err)
			}
		}
	}
	return nil
}

// look notes what is deployed now, so that what somebody else deploys until
// this has come to its end is not replaced unseen.
func (d *deployment) look(ctx context.Context) error {
	for _, name := range d.file.Names() {
		f, err := d.client.Function(ctx, d.app, name)
		if refused, ok := errors.AsType[*client.Error](err); ok && refused.Code == api.CodeNotFound {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", name, err)
		}
		d.tags[name] = f.ETag
	}
	return nil
}

func (d *deployment) put(ctx context.Context, name, ref string) (api.Function, error) {
	tag := d.tags[name]
	f, err := d.client.PutFunction(ctx, d.app, name, d.file.NewVersion(name, ref), client.PutOptions{IfMatch: tag, Create: tag == "", Lazy: d.pull == pullLazy})
	if refused, ok := errors.AsType[*client.Error](err); ok && refused.Code == api.CodeConflict {
		return f, fmt.Errorf("deploy %[1]s: somebody else changed it meanwhile, and theirs stays: look with 'dayfly version list %[2]s/%[1]s', then deploy again to replace it: %[3]w",
			name, d.app, err)
	}
	if err != nil {
		return f, fmt.Errorf("deploy %s: %w", name, err)
	}
	return f, nil
}

func (d *deployment) build(ctx context.Context) error {
	for _, name := range d.file.Names() {
		b := d.file.Functions[name].Build
		if b == nil {
			continue
		}
		d.chat("Building %s from %s (%s).", name, filepath.Join(d.dir, b.Source), b.Runtime)
		image, err := build.Build(ctx, build.Options{
			Root: d.dir, Source: b.Source, Runtime: b.Runtime, Env: d.Env, Output: d.Stderr,
		})
		if err != nil {
			return fmt.Errorf("build %s: %w", name, err)
		}
		d.images[name] = image
	}
	return nil
}

// upload sends an image to the server as it is written, and gives the digest
// by which the function will name it: a name could be another image's by the
// time it is looked up.
func (d *deployment) upload(ctx context.Context, name string, image *build.Image) (string, error) {
	read, write := io.Pipe()
	type result struct {
		digest string
		err    error
	}
	written := make(chan result, 1)
	go func() {
		digest, err := image.WriteTar(write, imageName(d.app, name))
		write.CloseWithError(err)
		written <- result{digest, err}
	}()
	images, err := d.client.LoadImages(ctx, read)
	// What the server did not read is not going to be read.
	read.CloseWithError(io.ErrClosedPipe)
	sent := <-written
	switch {
	case err != nil:
		return "", fmt.Errorf("upload the image of %s: %w", name, err)
	case sent.err != nil:
		return "", fmt.Errorf("upload the image of %s: %w", name, sent.err)
	case len(images) != 1 || images[0].Digest != sent.digest:
		return "", fmt.Errorf("upload the image of %s: the server did not load the image %s that was sent", name, sent.digest)
	}
	d.chat("Uploaded %s, %s, %s.", name, size(int64(image.Size)), shortDigest(sent.digest))
	return sent.digest, nil
}

// plainName is a name that may also be part of an image's name.
var plainName = regexp.MustCompile(`^[a-z0-9]+([_-][a-z0-9]+)*$`)

// imageName gives the name under which the image of a function is kept, ""
// when the function's name cannot be one of an image.
func imageName(app, function string) string {
	if !plainName.MatchString(app) || !plainName.MatchString(function) {
		return ""
	}
	return app + "/" + function + ":latest"
}

// close removes what was built.
func (d *deployment) close() error {
	var errs []error
	for _, image := range d.images {
		errs = append(errs, image.Close())
	}
	return errors.Join(errs...)
}
