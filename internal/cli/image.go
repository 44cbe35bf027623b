package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dayfly-io/dayfly/api"
)

func (s *session) imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Load and list container images"}
	group(cmd)
	cmd.AddCommand(s.imageLoadCommand(), s.imageListCommand())
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
	header := []string{"IMAGE", "DIGEST", "SIZE", "PLATFORM", "LOADED"}
	return printList(s, asJSON, api.List[api.Image]{Items: images}, header, func(i api.Image) []string {
		return []string{
			strings.Join(i.Names, " "), shortDigest(i.Digest), size(i.Bytes),
			i.Config.OS + "/" + i.Config.Architecture, ago(s.Now(), i.LoadedAt),
		}
	})
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
