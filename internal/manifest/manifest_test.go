package manifest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dayfly-io/dayfly/api"
	"github.com/dayfly-io/dayfly/internal/core"
	"github.com/dayfly-io/dayfly/internal/manifest"
)

const whole = `
app: shop
functions:
  resize:
    build: {runtime: go, source: ./resize}
    contract: http
    command: ["/app", "-v"]
    port: 9000
    memory: 128MiB
    cpu: 0.5
    cpu_weight: 200
    root: writable(16MiB)
    mounts:
      - {name: models, path: /models, read_only: true}
      - name: data
        path: /var/data
    timeout: 30s
    network: none
    env: {QUALITY: "85", LEVEL: 7, FAST: true, EMPTY: ""}
    instances: {max: 10, idle: 60s}
    concurrency: {per_instance: 80}
    limits: {start: 5s, headers: 32KiB, log: 2MiB, tmp: 1MiB, pids: 10, files: 20, waiting: 30, wait: 1s}
    description: Makes pictures smaller.
    annotations:
      owner: {team: [a, b], since: 2026, on: true, none: null}
  count:
    image: shop/count:1.2
    contract: job
    args: body
    content_type: text/plain
    stream: true
    limits: {body: 1MiB, result: 2MiB}
`

func TestParseReadsEveryKey(t *testing.T) {
	t.Parallel()
	f, err := manifest.Parse("dayfly.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"resize", "count"}, f.Names()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&manifest.Build{Runtime: "go", Source: "./resize"}, f.Functions["resize"].Build); diff != "" {
		t.Error(diff)
	}
	want := api.NewVersion{
		Description: "Makes pictures smaller.",
		Annotations: api.Annotations{"owner": []byte(`{"none":null,"on":true,"since":2026,"team":["a","b"]}`)},
		Spec: api.Spec{
			Image: "x", Contract: api.ContractHTTP, Command: []string{"/app", "-v"}, Port: 9000,
			Memory: 128 * api.MiB, CPU: 0.5, CPUWeight: 200, Root: "writable(16MiB)",
			Mounts:  []api.Mount{{Name: "models", Path: "/models", ReadOnly: true}, {Name: "data", Path: "/var/data"}},
			Timeout: api.Duration(30 * time.Second), Network: api.NetworkNone,
			Env:         map[string]string{"QUALITY": "85", "LEVEL": "7", "FAST": "true", "EMPTY": ""},
			Instances:   api.InstanceBounds{Max: 10, Idle: api.Duration(time.Minute)},
			Concurrency: api.Concurrency{PerInstance: 80},
			Limits: api.Limits{
				Start: api.Duration(5 * time.Second), Headers: 32 * api.KiB, Log: 2 * api.MiB, Tmp: api.MiB,
				Pids: 10, Files: 20, Waiting: 30, Wait: api.Duration(time.Second),
			},
		},
	}
	if diff := cmp.Diff(want, f.NewVersion("resize", "x")); diff != "" {
		t.Error(diff)
	}
	want = api.NewVersion{Spec: api.Spec{
		Image: "y", Contract: api.ContractJob, Args: api.ArgsBody, ContentType: "text/plain", Stream: true,
		Limits: api.Limits{Body: api.MiB, Result: 2 * api.MiB},
	}}
	if diff := cmp.Diff(want, f.NewVersion("count", "y")); diff != "" {
		t.Error(diff)
	}
}

// fn wraps the keys of one function into a manifest, in line 3 and following.
func fn(keys string) string {
	return "functions:\n  f:\n    " + strings.ReplaceAll(keys, "\n", "\n    ") + "\n"
}

func TestParseSaysWhatIsWrongAndWhere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":          {fn("image: i\nmemry: 1MiB"), `m:4:5: functions.f: unknown key "memry"; did you mean "memory"?`},
		"swapped letters":      {fn("iamge: i"), `m:3:5: functions.f: unknown key "iamge"; did you mean "image"?`},
		"unknown top key":      {"apps: x\nfunctions:\n  f: {image: i}\n", `m:1:1: unknown key "apps"; did you mean "app"?`},
		"unknown far key":      {fn("image: i\nbananas: 1"), `m:4:5: functions.f: unknown key "bananas"; the keys here are annotations, args,`},
		"unknown inner key":    {fn("image: i\nlimits: {bodi: 1MiB}"), `m:4:14: functions.f.limits: unknown key "bodi"; did you mean "body"?`},
		"key of a later day":   {fn("image: i\nretry: {attempts: 2}"), `m:4:5: functions.f: unknown key "retry"; the keys here are`},
		"twice":                {fn("image: i\nimage: j"), `m:4:5: functions.f: the key "image" stands here twice: it is in line 3 already`},
		"function twice":       {"functions:\n  f: {image: i}\n  f: {image: j}\n", `m:3:3: functions: the key "f" stands here twice`},
		"env twice":            {fn("image: i\nenv: {A: x, A: y}"), `m:4:17: functions.f.env: the key "A" stands here twice`},
		"both":                 {fn("image: i\nbuild: {runtime: go}"), `functions.f: both image and build are there`},
		"neither":              {fn("memory: 64MiB"), `m:2:3: functions.f: neither image nor build is there`},
		"no runtime":           {fn("build: {source: .}"), `functions.f.build: the key runtime is missing: it is go`},
		"other runtime":        {fn("build: {runtime: rust}"), `m:3:22: functions.f.build.runtime: "rust" is not a runtime: it is go`},
		"size without unit":    {fn("image: i\nmemory: 128"), `m:4:13: functions.f.memory: "128" is not a size: write a number and a unit, such as 128MiB`},
		"size out of bounds":   {fn("image: i\nmemory: 1MiB"), `m:4:13: functions.f.memory: the memory 1MiB is out of bounds: 4MiB to 4TiB`},
		"size of zero":         {fn("image: i\nmemory: 0MiB"), `m:4:13: functions.f.memory: 0 is not allowed here`},
		"limit out of bounds":  {fn("image: i\nlimits: {tmp: 1MiB, start: 2h}"), `m:4:32: functions.f.limits.start: limits.start is 2h0m0s; it may be 1ms to 1h`},
		"duration":             {fn("image: i\ntimeout: 30"), `m:4:14: functions.f.timeout: "30" is not a duration: write a number and a unit, such as 30s`},
		"negative duration":    {fn("image: i\ntimeout: -30s"), `m:4:14: functions.f.timeout: "-30s" is not a duration`},
		"timeout too long":     {fn("image: i\ntimeout: 25h"), `m:4:14: functions.f.timeout: the timeout 25h0m0s is out of bounds`},
		"idle of zero":         {fn("image: i\ninstances: {max: 0, idle: 0s}"), `functions.f.instances.idle: 0 is not allowed here`},
		"none per instance":    {fn("image: i\nconcurrency: {per_instance: 0}"), `m:4:33: functions.f.concurrency.per_instance: 0 is not allowed here`},
		"many per instance":    {fn("image: i\nconcurrency: {per_instance: 1001}"), `m:4:33: functions.f.concurrency.per_instance: concurrency.per_instance is 1001; it may be 1 to 1000`},
		"two per job":          {fn("image: i\ncontract: job\nconcurrency: {per_instance: 2}"), `m:5:33: functions.f.concurrency.per_instance: concurrency.per_instance is for the contract http only`},
		"unknown concurrency":  {fn("image: i\nconcurrency: {per_instnce: 2}"), `m:4:19: functions.f.concurrency: unknown key "per_instnce"; did you mean "per_instance"?`},
		"bare concurrency":     {fn("image: i\nconcurrency: 2"), `functions.f.concurrency: the single value 2 is not allowed here: a mapping of keys and values must follow`},
		"weight of zero":       {fn("image: i\ncpu_weight: 0"), `m:4:17: functions.f.cpu_weight: 0 is not allowed here`},
		"weight too high":      {fn("image: i\ncpu_weight: 10001"), `m:4:17: functions.f.cpu_weight: cpu_weight is 10001; it may be 1 to 10000`},
		"root of no size":      {fn("image: i\nroot: writable"), `m:4:11: functions.f.root: "writable" is not a root: write read_only, or writable(SIZE)`},
		"root over memory":     {fn("image: i\nroot: writable(1GiB)"), `m:4:11: functions.f.root: the root is writable(1GiB), which is more than the memory`},
		"root is a mapping":    {fn("image: i\nroot: {writable: 1MiB}"), `functions.f.root: a mapping is not allowed here: a single value must follow`},
		"mounts no list":       {fn("image: i\nmounts: {name: a, path: /a}"), `functions.f.mounts: a mapping is not allowed here: a list must follow`},
		"mount is text":        {fn("image: i\nmounts: [/srv:/data]"), `functions.f.mounts[0]: the single value /srv:/data is not allowed here: a mapping`},
		"mount unknown key":    {fn("image: i\nmounts: [{name: a, path: /a}, {name: b, source: /b}]"), `functions.f.mounts[1]: unknown key "source"; the keys here are name, path, read_only`},
		"mount at /proc":       {fn("image: i\nmounts: [{name: a, path: /proc/x}]"), `functions.f.mounts: nothing can be mounted at /proc/x`},
		"mount without a path": {fn("image: i\nmounts: [{name: a}]"), `functions.f.mounts: the mount of "a" has the path ""`},
		"mount with no name":   {fn("image: i\nmounts: [{path: /a}]"), `functions.f.mounts: the name of the directory has 0 characters`},
		"gpus and another":     {fn("image: i\ngpus: 1\nbananas: 1"), `m:4:5: functions.f: functions cannot have GPUs yet: leave gpus out`},
		"devices elsewhere":    {fn("image: i\nlimits: {devices: 1}"), `functions.f.limits: unknown key "devices"`},
		"cpu":                  {fn("image: i\ncpu: lots"), `m:4:10: functions.f.cpu: "lots" is not a number of processors`},
		"contract":             {fn("image: i\ncontract: lambda"), `m:4:15: functions.f.contract: the contract "lambda" is not known: it is job, http or fdk`},
		"network":              {fn("image: i\nnetwork: host"), `m:4:14: functions.f.network: the network "host" is not known`},
		"port":                 {fn("image: i\nport: 70000"), `m:4:11: functions.f.port: the port 70000 is out of bounds: 1 to 65535`},
		"port is a word":       {fn("image: i\nport: web"), `m:4:11: functions.f.port: "web" is not a whole number`},
		"port of a job":        {fn("image: i\ncontract: job\nport: 80"), `m:5:11: functions.f.port: a job has no port`},
		"args of http":         {fn("image: i\nargs: body"), `m:4:11: functions.f.args: args is for the contract job only`},
		"bool":                 {fn("image: i\ncontract: job\nstream: yes"), `m:5:13: functions.f.stream: "yes" is neither true nor false`},
		"own env":              {fn("image: i\nenv: {DAYFLY_APP: x}"), `functions.f.env: the env name "DAYFLY_APP" begins with DAYFLY_`},
		"env of nothing":       {fn("image: i\nenv:\n  A:"), `functions.f.env.A: nothing is not allowed here: text must follow`},
		"env is a list":        {fn("image: i\nenv: [A=b]"), `m:4:10: functions.f.env: a list is not allowed here: a mapping of keys and values must follow`},
		"command is text":      {fn("image: i\ncommand: /app"), `functions.f.command: the single value /app is not allowed here: a list must follow`},
		"memory is a list":     {fn("image: i\nmemory: [1]"), `functions.f.memory: a list is not allowed here: a single value must follow`},
		"annotation key":       {fn("image: i\nannotations: {\"a b\": 1}"), `functions.f.annotations: the annotation key "a b" has a character`},
		"annotation not JSON":  {fn("image: i\nannotations: {a: .nan}"), `functions.f.annotations.a: this value cannot be written as JSON`},
		"function name":        {"functions:\n  a/b: {image: i}\n", `m:2:3: functions: the name "a/b" of the function has the character '/'`},
		"app name":             {"app: a b\nfunctions:\n  f: {image: i}\n", `m:1:6: app: the name "a b" of the app has the character ' '`},
		"function of nothing":  {"functions:\n  f:\n", `functions.f: nothing is not allowed here`},
		"no functions":         {"app: x\n", "there are no functions"},
		"functions of nothing": {"functions: {}\n", "there are no functions"},
		"empty":                {"", "m: the manifest is empty"},
		"comment only":         {"# nothing\n", "m: the manifest is empty"},
		"list":                 {"- a\n", "m:1:1: the manifest is not a mapping"},
		"two documents":        {"functions: {f: {image: i}}\n---\napp: x\n", "a second document"},
		"not YAML":             {"functions: [\n", "m:1:12: not YAML: "},
		"alias":                {"functions: &f\n  f: {image: i}\nother: *f\n", "m:1:12: anchors and aliases"},
		"tag":                  {fn("image: !!str 5"), "m:3:12: tags (!) are not allowed"},
		"merge":                {fn("<<: {image: i}"), "merge keys (<<) are not allowed"},
		"marked key":           {"? functions\n: {f: {image: i}}\n", "m:1:1: keys marked by ? are not allowed"},
		"directive":            {"%YAML 1.2\n---\nfunctions: {f: {image: i}}\n", "directives (%) are not allowed"},
		"deep flow":            {"functions: " + strings.Repeat("[", 100_000), "nested too deep"},
		"deep dashes":          {strings.Repeat("- ", 100_000) + "a", "nested too deep"},
		"too large":            {strings.Repeat("#", manifest.MaxSize+1), "m is larger than 1MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := manifest.Parse("m", []byte(c.text))
			if err == nil {
				t.Fatalf("it was read: %+v", f)
			}
			if !core.IsKind(err, core.KindInvalid) {
				t.Errorf("the error is not of kind invalid: %v", err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is\n%s\nand should have\n%s", err, c.want)
			}
		})
	}
}

func TestParseTellsOfAllThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := manifest.Parse("m", []byte(fn("imag: i\nmemory: 5\ncpu: x")))
	if err == nil || len(strings.Split(err.Error(), "\n")) != 3 {
		t.Errorf("want three lines, got %v", err)
	}
	_, err = manifest.Parse("m", []byte("functions:\n"+strings.Repeat("  f: 1\n", 1000)))
	if err == nil || len(strings.Split(err.Error(), "\n")) != 10 {
		t.Errorf("want ten lines, got %v", err)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := manifest.Read(dir); !core.IsKind(err, core.KindNotFound) || !strings.Contains(err.Error(), "there is no dayfly.yaml in "+dir) {
		t.Errorf("a missing file gives %v", err)
	}
	path := filepath.Join(dir, manifest.Name)
	for _, c := range []struct{ text, want string }{
		{"functions:\n  a: {image: i}\n", ""},
		{strings.Repeat("#", manifest.MaxSize+1), "larger than 1MiB"},
		{"functions: 1\n", path + ":1:12: functions: the single value 1 is not allowed here"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := manifest.Read(dir)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("the error is %v and should have %q", err, c.want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := manifest.Read(dir); !core.IsKind(err, core.KindInvalid) {
		t.Errorf("a directory in its place gives %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add(fn("image: i\nlimits: {tmp: 1MiB, start: 2h}"))
	f.Add("functions: &f\n  f: {image: i}\nother: *f\n")
	f.Add("functions: {f: {image: |\n  x\n}}")
	f.Add("functions:\n  f: {build: {runtime: go, source: ../..}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := manifest.Parse("m", []byte(text))
		if err != nil {
			if !core.IsKind(err, core.KindInvalid) || err.Error() == "" {
				t.Fatalf("the error is not for people: %v", err)
			}
			return
		}
		// What is read can be asked for.
		for _, name := range file.Names() {
			if err := file.Functions[name].Spec("image").WithDefaults().Validate(); err != nil {
				t.Fatalf("%s was read, but is not valid: %v", name, err)
			}
		}
	})
}

// What Dayfly knows of and cannot do yet is told apart from a slip.
func TestKeysThatCannotBeHadYet(t *testing.T) {
	t.Parallel()
	_, err := manifest.Parse("m", []byte(fn("image: i\ngpus: 1\ndevices: [/dev/kvm]")))
	if !core.IsKind(err, core.KindNotImplemented) || !strings.Contains(err.Error(), "leave gpus out") || !strings.Contains(err.Error(), "leave devices out") {
		t.Errorf("got %v", err)
	}
}
