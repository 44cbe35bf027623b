package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/client"
)

func (s *session) imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Pull, load, list, show and remove container images"}
	group(cmd)
	cmd.AddCommand(s.imagePullCommand(), s.imageLoadCommand(), s.imageListCommand(), s.imageShowCommand(), s.imageRemoveCommand(), s.imagePruneCommand())
	return cmd
}

func (s *session) imageLoadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "load FILE",
		Short: "Send images to the server",
		Long: `Send the images in a tar to the server: one that 'docker save' wrote, or one in
OCI layout. Their names are kept. FILE - is standard input.`,
		Example: `  dayfly image load hello.tar
  docker save hello:1 | dayfly image load -`,
		Args: names("FILE"),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in := io.NopCloser(s.Stdin)
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return notReadable(err)
			}
			in = f
		}
		defer in.Close() //nolint:errcheck // it was only read
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		images, err := c.LoadImages(cmd.Context(), in)
		if err != nil {
			return err
		}
		return s.printImages(*asJSON, images)
	}
	return cmd
}

func (s *session) imageListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the images that the server has", Args: names()}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		images, err := c.Images(cmd.Context())
		if err != nil {
			return err
		}
		return s.printImages(*asJSON, images)
	}
	return cmd
}

func (s *session) printImages(asJSON bool, images []api.Image) error {
	header := []string{"IMAGE", "DIGEST", "SIZE", "PLATFORM", "LOADED", "USED"}
	return printList(s, asJSON, api.List[api.Image]{Items: images}, header, func(i api.Image) []string {
		return []string{
			strings.Join(i.Names, " "), shortDigest(i.Digest), size(i.Bytes),
			i.Config.OS + "/" + i.Config.Architecture, ago(s.Now(), i.LoadedAt), ago(s.Now(), i.UsedAt),
		}
	})
}

func (s *session) imagePullCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pull REF",
		Short: "Have the server pull an image from its registry",
		Long: `Have the server pull an image from its registry. What the server has of it
already is not pulled again, and a pull that was ended goes on where it was.

Credentials are those of the user that the server runs as: what 'docker login'
keeps there.`,
		Example: `  dayfly image pull registry.example/shop/resize:1.2
  dayfly image pull registry.example/shop/resize@sha256:9f86d0...`,
		Args: names("REF"),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		image, err := s.pull(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return s.printJSON(image)
		}
		return s.printImages(false, []api.Image{image})
	}
	return cmd
}

// pull has the server pull an image, and shows on standard error how far it
// is.
func (s *session) pull(ctx context.Context, c *client.Client, ref string) (api.Image, error) {
	m := &meter{out: s.Stderr, live: isTerminal(s.Stderr) && s.env("TERM") != "dumb"}
	image, err := c.PullImage(ctx, ref, m.show)
	m.end()
	if err == nil {
		s.chat("Pulled %s, %s, %s.", ref, size(image.Bytes), shortDigest(image.Digest))
	}
	return image, err
}

// meter shows the progress of a pull: on a terminal in one line that changes,
// elsewhere in lines, few of them.
type meter struct {
	out  io.Writer
	live bool
	last string // what was said last
	wide int    // how wide it was
}

func (m *meter) show(p api.PullProgress) {
	text := m.line(p)
	switch {
	case text == m.last:
	case m.live:
		_, _ = fmt.Fprintf(m.out, "\r%-*s", m.wide, text)
		m.wide = utf8.RuneCountInString(text)
	default:
		_, _ = fmt.Fprintln(m.out, text)
	}
	m.last = text
}

// plainStep is by how many hundredths a pull gets on from one line to the
// next where there is no terminal.
const plainStep = 10

func (m *meter) line(p api.PullProgress) string {
	switch p.Phase {
	case api.PullResolving:
		return "Asking the registry for " + printable(p.Image)
	case api.PullUnpacking:
		return fmt.Sprintf("Unpacking: %d of %d layers", p.LayersDone, p.Layers)
	}
	if !m.live {
		return fmt.Sprintf("Downloading: %d%% of %s", p.Percent/plainStep*plainStep, size(p.BytesTotal))
	}
	return fmt.Sprintf("Downloading: %3d%%  %s of %s  %s/s  %d of %d layers",
		p.Percent, size(p.BytesDone), size(p.BytesTotal), size(p.Rate), p.LayersDone, p.Layers)
}

// end takes the line that changes away.
func (m *meter) end() {
	if m.live && m.last != "" {
		_, _ = fmt.Fprintf(m.out, "\r%*s\r", m.wide, "")
	}
}

func (s *session) imageShowCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show REF", Short: "Show an image that the server has", Args: names("REF")}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		i, err := c.Image(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return s.printJSON(i)
		}
		return s.printRows(imageRows(i, s.Now()))
	}
	return cmd
}

func imageRows(i api.Image, now time.Time) [][]string {
	source := i.Source
	if source == "" {
		source = "loaded: it cannot be pulled again"
	}
	used := "never"
	if !i.UsedAt.IsZero() {
		used = ago(now, i.UsedAt)
	}
	rows := [][]string{
		{"image", strings.Join(i.Names, " ")},
		{"digest", i.Digest},
		{"source", source},
		{"platform", i.Config.OS + "/" + i.Config.Architecture},
		{"size", size(i.Bytes)},
		{"loaded", i.LoadedAt.Local().Format(time.RFC3339) + " (" + ago(now, i.LoadedAt) + ")"},
		{"used", used},
		{"instances", strconv.Itoa(i.Instances)},
	}
	for _, row := range [][]string{
		{"entrypoint", strings.Join(i.Config.Entrypoint, " ")},
		{"cmd", strings.Join(i.Config.Cmd, " ")},
		{"directory", i.Config.WorkingDir},
		{"user", i.Config.User},
	} {
		if row[1] != "" {
			rows = append(rows, row)
		}
	}
	return rows
}

func (s *session) imageRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove REF",
		Short: "Remove an image from the server",
		Long: `Take a name from its image, or remove an image by its digest. An image goes with
its last name, unless instances use it. What a function has and cannot be pulled
again stays.`,
		Args: names("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.client(cmd)
			if err != nil {
				return err
			}
			if err := c.RemoveImage(cmd.Context(), args[0]); err != nil {
				return err
			}
			s.chat("Removed %s.", args[0])
			return nil
		},
	}
}

func (s *session) imagePruneCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove the images that nothing uses",
		Long: `Remove the images that no function has and no instance uses, of those that can be
pulled again or have no name. With --all, also images of functions that can be
pulled again at their next call, and loaded ones that have a name and no function.

The server does the same by itself for images that nothing has used for long:
see --image-keep and --image-space of 'dayfly server'.`,
		Args: names(),
	}
	all := cmd.Flags().Bool("all", false, "let go of all that no instance uses and no function would miss")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		pruned, err := c.PruneImages(cmd.Context(), *all)
		if err != nil {
			return err
		}
		if *asJSON {
			return s.printJSON(pruned)
		}
		s.chat("Removed %d images and %d layers, %s.", len(pruned.Images), pruned.Layers, size(pruned.Bytes))
		if len(pruned.Images) == 0 {
			return nil
		}
		return s.printImages(false, pruned.Images)
	}
	return cmd
}

// notReadable says that a file which the command line names cannot be read;
// one that is not there is not found, like anything else.
func notReadable(err error) error {
	code := exitError
	if os.IsNotExist(err) {
		code = exitNotFound
	}
	return &failure{code: code, err: fmt.Errorf("read the file: %w", err)}
}
