package cli

import (
	"github.com/spf13/cobra"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/client"
)

func (s *session) appCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "app", Short: "List apps"}
	group(cmd)
	cmd.AddCommand(s.appListCommand())
	return cmd
}

func (s *session) appListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the apps of the server", Args: names()}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		list, err := collect(func(p client.Page) (api.List[api.App], error) { return c.Apps(cmd.Context(), p) })
		if err != nil {
			return err
		}
		return printList(s, *asJSON, list, []string{"APP", "CREATED", "DESCRIPTION"}, func(a api.App) []string {
			return []string{a.Name, ago(s.Now(), a.CreatedAt), a.Description}
		})
	}
	return cmd
}

// collect gives all pages of a list as one.
func collect[T any](list func(client.Page) (api.List[T], error)) (api.List[T], error) {
	all := api.List[T]{Items: []T{}}
	for item, err := range client.All(list) {
		if err != nil {
			return all, err
		}
		all.Items = append(all.Items, item)
	}
	return all, nil
}
