package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/client"
)

func (s *session) functionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "function", Short: "Create, list, show, roll back and delete functions"}
	group(cmd)
	cmd.AddCommand(s.functionCreateCommand(), s.functionListCommand(), s.functionShowCommand(), s.functionRollbackCommand(), s.functionDeleteCommand())
	return cmd
}

func (s *session) functionCreateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create NAME --image REF",
		Short: "Create a function from an image",
		Long: `Create a function from an image that the server has, or that a registry has.

An image that was loaded is named as it was: see 'dayfly image list'. One of a
registry is asked for now and pulled at the first call, unless --pull says
otherwise. A function that exists already is left as it is; 'dayfly deploy' makes
new versions.`,
		Example: `  dayfly function create hello --image hello:1
  dayfly function create count --image count:1 --contract job --memory 64MiB --env LEVEL=2`,
		Args: names("NAME"),
	}
	var v api.NewVersion
	env := specFlags(cmd.Flags(), &v)
	asJSON := jsonFlag(cmd)
	when := pullFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if v.Image == "" {
			return usageError(cmd, "--image is missing: name an image that the server or a registry has")
		}
		if err := checkPull(cmd, *when); err != nil {
			return err
		}
		vars, err := parseEnv(*env)
		if err != nil {
			return usageError(cmd, "%s", err)
		}
		v.Env = vars
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		if *when == pullNow {
			if _, err := s.pull(cmd.Context(), c, v.Image); err != nil {
				return err
			}
		}
		app, name := s.function(args[0])
		f, err := c.PutFunction(cmd.Context(), app, name, v, client.PutOptions{Create: true, Lazy: *when == pullLazy})
		if err != nil {
			return err
		}
		if *asJSON {
			return s.printJSON(f)
		}
		s.chat("Created %s/%s, version %d.", f.App, f.Name, f.Version)
		s.sayUnresolved(f)
		return s.printRows([][]string{{c.FunctionURL(f.App, f.Name)}})
	}
	return cmd
}

// specFlags adds the flags that say what a version is made of.
func specFlags(flags *pflag.FlagSet, v *api.NewVersion) (env *[]string) {
	flags.StringVar(&v.Image, "image", "", "`REF` of the image: a name or a digest")
	flags.StringVar(&v.Contract, "contract", "", "`CONTRACT`: how the process is talked to, http, job or fdk (default http)")
	flags.Var(&text[api.Bytes]{to: &v.Memory, parse: api.ParseBytes}, "memory", "`SIZE` of the memory an instance may use (default 128MiB)")
	flags.Var(&text[float64]{to: &v.CPU, parse: parseCPU}, "cpu", "`PROCESSORS` an instance may use (default 1)")
	flags.IntVar(&v.CPUWeight, "cpu-weight", 0, "`WEIGHT` of an instance beside others where processors are short (default 100)")
	flags.StringVar(&v.Root, "root", "", "`ROOT` of the file system: read_only or 'writable(SIZE)', in memory (default read_only)")
	flags.Var(mountFlag{&v.Mounts}, "mount", "a directory that the server allows, `NAME=PATH` or NAME=PATH:ro; may be repeated")
	flags.Var(&text[api.Duration]{to: &v.Timeout, parse: api.ParseDuration}, "timeout", "`TIME` a run may take (default 30s)")
	flags.StringVar(&v.Network, "network", "", "`NETWORK` an instance can reach: egress or none (default egress)")
	flags.IntVar(&v.Port, "port", 0, "`PORT` where an http function listens (default 8080)")
	flags.IntVar(&v.Concurrency.PerInstance, "per-instance", 0, "`N` requests an instance of an http function takes at a time (default 1)")
	flags.StringArrayVar(&v.Command, "command", nil, "`WORD` to run in place of the image's entrypoint and cmd; repeat for each word")
	flags.StringVar(&v.Description, "description", "", "`TEXT` that says what the function is for")
	return flags.StringArray("env", nil, "an environment variable, `K=V`; may be repeated")
}

// mountFlag gathers directories of the host.
type mountFlag struct{ to *[]api.Mount }

// String gives what was set.
func (m mountFlag) String() string {
	if m.to == nil {
		return ""
	}
	var out []string
	for _, v := range *m.to {
		out = append(out, mountText(v))
	}
	return strings.Join(out, " ")
}

// Type names the kind of value in help texts.
func (m mountFlag) Type() string { return "mount" }

// Set reads one more.
func (m mountFlag) Set(s string) error {
	name, path, ok := strings.Cut(s, "=")
	if !ok || name == "" || !strings.HasPrefix(path, "/") {
		return fmt.Errorf("%q is no mount: write NAME=/path/in/the/function, or NAME=/path/in/the/function:ro", s)
	}
	v := api.Mount{Name: name}
	v.Path, v.ReadOnly = strings.CutSuffix(path, ":ro")
	*m.to = append(*m.to, v)
	return nil
}

// mountText gives a mount as --mount takes it.
func mountText(m api.Mount) string {
	if m.ReadOnly {
		return m.Name + "=" + m.Path + ":ro"
	}
	return m.Name + "=" + m.Path
}

// text is a flag whose value is read from text; it is shown as empty until it
// is set.
type text[T any] struct {
	to    *T
	parse func(string) (T, error)
	given string
}

// String gives what was set.
func (t *text[T]) String() string { return t.given }

// Type names the kind of value in help texts.
func (t *text[T]) Type() string { return "value" }

// Set reads the value.
func (t *text[T]) Set(s string) error {
	v, err := t.parse(s)
	if err != nil {
		return err
	}
	*t.to, t.given = v, s
	return nil
}

func parseCPU(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0.01 && v <= 1024) {
		return 0, fmt.Errorf("%q is not a number of processors: write 0.01 to 1024, such as 0.5", s)
	}
	return v, nil
}

func parseEnv(list []string) (map[string]string, error) {
	var env map[string]string
	for _, kv := range list {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--env %q is not K=V", kv)
		}
		if env == nil {
			env = map[string]string{}
		}
		env[k] = v
	}
	return env, nil
}

func (s *session) functionListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List functions", Args: names(),
		Long: "List functions: those of the app that --app or DAYFLY_APP names, else all.",
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		list, err := collect(func(p client.Page) (api.List[api.Function], error) {
			return c.Functions(cmd.Context(), s.appOr(""), p)
		})
		if err != nil {
			return err
		}
		header := []string{"APP", "FUNCTION", "VERSION", "CONTRACT", "MEMORY", "CPU", "TIMEOUT", "IMAGE", "DEPLOYED"}
		return printList(s, *asJSON, list, header, func(f api.Function) []string {
			return []string{
				f.App, f.Name, strconv.Itoa(f.Version), f.Contract, f.Memory.String(), cpu(f.CPU),
				limit(f.Timeout), shortDigest(f.Image), ago(s.Now(), f.DeployedAt),
			}
		})
	}
	return cmd
}

func (s *session) functionShowCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show NAME", Short: "Show a function", Args: names("NAME")}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		app, name := s.function(args[0])
		f, err := c.Function(cmd.Context(), app, name)
		if err != nil {
			return err
		}
		if *asJSON {
			return s.printJSON(f)
		}
		return s.printRows(functionRows(f, c.FunctionURL(f.App, f.Name), s.Now()))
	}
	return cmd
}

func functionRows(f api.Function, url string, now time.Time) [][]string {
	rows := [][]string{
		{"function", f.App + "/" + f.Name},
		{"url", url},
		{"version", strconv.Itoa(f.Version) + ", deployed " + ago(now, f.DeployedAt)},
	}
	add := func(key, value string) {
		if value != "" {
			rows = append(rows, []string{key, value})
		}
	}
	add("description", f.Description)
	if f.Kept != nil {
		add("kept", keptWord(*f.Kept, now))
	}
	rows = append(rows, specRows(f.Spec, f.Digest)...)
	for _, k := range slices.Sorted(maps.Keys(f.Annotations)) {
		add("annotation", k+" "+string(f.Annotations[k]))
	}
	return rows
}

// specRows tells what a version is made of.
func specRows(f api.Spec, digest string) (rows [][]string) {
	add := func(key, value string) {
		if value != "" {
			rows = append(rows, []string{key, value})
		}
	}
	add("image", f.Image)
	switch digest {
	case f.Image:
	case "":
		add("digest", "unresolved: found out at the first call")
	default:
		add("digest", digest)
	}
	add("contract", f.Contract)
	add("command", quoteWords(f.Command))
	if f.Port != 0 {
		add("port", strconv.Itoa(f.Port))
	}
	add("memory", f.Memory.String())
	add("cpu", cpuDetail(f))
	if f.Root != "read_only" {
		add("root", f.Root)
	}
	for _, m := range f.Mounts {
		add("mount", mountText(m))
	}
	add("timeout", limit(f.Timeout))
	add("network", f.Network)
	add("instances", boundsWord(f.Instances))
	if f.Instances.Idle > 0 {
		add("idle", limit(f.Instances.Idle))
	}
	if f.Instances.Freeze > 0 && f.Contract != api.ContractJob {
		add("freeze", freezeWord(f.Instances))
	}
	if f.Concurrency.PerInstance > 1 {
		add("concurrency", strconv.Itoa(f.Concurrency.PerInstance)+" calls per instance")
	}
	for _, k := range slices.Sorted(maps.Keys(f.Env)) {
		add("env", k+"="+f.Env[k])
	}
	return rows
}

func (s *session) functionRollbackCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollback NAME [--to N]",
		Short: "Make a new version that is what an earlier one was",
		Long: `Make a new version of a function that is what an earlier one was, its image too,
and have calls go to it. Calls under way are finished by the version they have.

Without --to it is the version before the one that is called; after a rollback,
the one before what was rolled back to.`,
		Example: `  dayfly function rollback hello
  dayfly function rollback hello --to 3`,
		Args: names("NAME"),
	}
	to := cmd.Flags().Int("to", 0, "`N`umber of the version to go back to")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("to") && *to < 1 {
			return usageError(cmd, "--to is %d: versions are numbered from 1", *to)
		}
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		app, name := s.function(args[0])
		before, err := c.Function(cmd.Context(), app, name)
		if err != nil {
			return err
		}
		f, err := c.Rollback(cmd.Context(), app, name, *to, before.ETag)
		if err != nil {
			return err
		}
		if *asJSON {
			return s.printJSON(f)
		}
		if f.Version == before.Version {
			s.chat("%s/%s stays at version %d: it is what was asked for.", app, name, f.Version)
			return nil
		}
		v, err := c.Version(cmd.Context(), app, name, f.Version)
		if err != nil {
			return err
		}
		s.chat("Rolled %s/%s back to version %d, as version %d.", app, name, v.Restores, f.Version)
		return nil
	}
	return cmd
}

func (s *session) functionDeleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a function and its versions; its runs stay", Args: names("NAME"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := s.client(cmd)
		if err != nil {
			return err
		}
		app, name := s.function(args[0])
		if err := c.DeleteFunction(cmd.Context(), app, name, ""); err != nil {
			return err
		}
		s.chat("Deleted %s/%s.", app, name)
		return nil
	}
	return cmd
}

// cpuDetail tells the weight, too, where it is not that of others.
func cpuDetail(s api.Spec) string {
	if s.CPUWeight == 0 || s.CPUWeight == 100 {
		return cpu(s.CPU)
	}
	return cpu(s.CPU) + ", weight " + strconv.Itoa(s.CPUWeight)
}

func cpu(n float64) string { return strconv.FormatFloat(n, 'g', -1, 64) }

// limit gives a duration that a person set, without the units that are 0.
func limit(d api.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func quoteWords(words []string) string {
	var out []string
	for _, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\") {
			w = strconv.Quote(w)
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

// keptWord says how many of the instances that are kept there are, and why not
// more.
func keptWord(k api.Kept, now time.Time) string {
	word := fmt.Sprintf("%d of %d ready", k.Ready, k.Want)
	if k.Problem != "" {
		word += "; " + k.Problem
	}
	if k.RetryAt.After(now) {
		word += "; the next is tried in " + span(k.RetryAt.Sub(now))
	}
	return word
}

// boundsWord says how many instances there may be.
func boundsWord(i api.InstanceBounds) string {
	least, most := strconv.Itoa(i.Min)+" at least", strconv.Itoa(i.Max)+" at most"
	switch {
	case i.Min > 0 && i.Max > 0:
		return least + ", " + most
	case i.Min > 0:
		return least
	case i.Max > 0:
		return most
	}
	return ""
}

func freezeWord(i api.InstanceBounds) string {
	if i.Freeze >= i.Idle {
		return "never"
	}
	return limit(i.Freeze)
}
