package cli

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/dayfly-io/dayfly/api"
)

func (s *session) instanceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "instance", Short: "List live instances"}
	group(cmd)
	cmd.AddCommand(s.instanceListCommand())
	return cmd
}

func (s *session) instanceListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the containers that are live", Args: names()}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		items, err := c.Instances(cmd.Context())
		if err != nil {
			return err
		}
		header := []string{"INSTANCE", "FUNCTION", "VERSION", "STATE", "MEMORY", "SERVED", "START", "STARTED", "USED", "FROZEN", "THAWS"}
		return printList(s, *asJSON, api.List[api.Instance]{Items: items}, header, func(i api.Instance) []string {
			return []string{
				i.ID, i.App + "/" + i.Function, strconv.Itoa(i.Version), i.State, i.Memory.String(),
				strconv.FormatInt(i.Served, 10), span(i.Start.Total()), ago(s.Now(), i.StartedAt), ago(s.Now(), i.UsedAt), ago(s.Now(), i.FrozenAt),
				strconv.FormatInt(i.Thaws, 10),
			}
		})
	}
	return cmd
}
