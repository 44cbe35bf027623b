package core_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dayfly-io/dayfly/internal/core"
)

func TestDefaults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		in   core.Spec
		want func(*core.Spec)
	}{
		{"nothing set", core.Spec{}, func(*core.Spec) {}},
		{"job has no port", core.Spec{Contract: core.ContractJob}, func(s *core.Spec) { s.Contract, s.Port = core.ContractJob, 0 }},
		{"port of env", core.Spec{Env: map[string]string{"PORT": "9000"}}, func(s *core.Spec) {
			s.Env, s.Port = map[string]string{"PORT": "9000"}, 9000
		}},
		{"port wins over env", core.Spec{Port: 1, Env: map[string]string{"PORT": "9000"}}, func(s *core.Spec) {
			s.Env, s.Port = map[string]string{"PORT": "9000"}, 1
		}},
		{"port of env is none", core.Spec{Env: map[string]string{"PORT": "http"}}, func(s *core.Spec) {
			s.Env = map[string]string{"PORT": "http"}
		}},
		{"some limits", core.Spec{Limits: core.Limits{Wait: time.Second, Pids: 3}}, func(s *core.Spec) {
			s.Limits.Wait, s.Limits.Pids = time.Second, 3
		}},
		{"all else set", core.Spec{Memory: 1, CPU: 2, Timeout: 3, Network: core.NetworkNone, Instances: core.Instances{Min: 2, Max: 4, Idle: 5, Freeze: 6}}, func(s *core.Spec) {
			s.Memory, s.CPU, s.Timeout, s.Network, s.Instances = 1, 2, 3, core.NetworkNone, core.Instances{Min: 2, Max: 4, Idle: 5, Freeze: 6}
		}},
		{"many per instance", core.Spec{Concurrency: core.Concurrency{PerInstance: 80}}, func(s *core.Spec) { s.Concurrency.PerInstance = 80 }},
	} {
		want := core.Spec{
			Contract: core.ContractHTTP, Memory: 128 * core.MiB, CPU: 1000, CPUWeight: 100, Timeout: 30 * time.Second, Port: 8080,
			Network: core.NetworkEgress, Instances: core.Instances{Idle: time.Minute, Freeze: 100 * time.Millisecond}, Concurrency: core.Concurrency{PerInstance: 1},
			Limits: core.Limits{
				Start: 10 * time.Second, Body: 10 * core.MiB, Result: 16 * core.MiB, Log: core.MiB, Headers: 64 * core.KiB,
				Tmp: 64 * core.MiB, Pids: 256, Files: 1024, Waiting: 1000, Wait: 10 * time.Second,
			},
		}
		tc.want(&want)
		got := tc.in.WithDefaults()
		if !got.Equal(want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.name, got, want)
		}
		if again := got.WithDefaults(); !again.Equal(got) {
			t.Errorf("%s: defaults filled in twice are others: %+v", tc.name, again)
		}
	}
}

func mounts(paths ...string) (out []core.Mount) {
	for _, p := range paths {
		out = append(out, core.Mount{Name: "data", Path: p})
	}
	return out
}

func TestSpecEqual(t *testing.T) {
	t.Parallel()
	a := core.Spec{Image: "i", Command: []string{"x"}, Env: map[string]string{"A": "1"}}
	for name, change := range map[string]func(*core.Spec){
		"image":   func(s *core.Spec) { s.Image = "j" },
		"command": func(s *core.Spec) { s.Command = []string{"y"} },
		"env":     func(s *core.Spec) { s.Env = map[string]string{"A": "2"} },
		"limit":   func(s *core.Spec) { s.Limits.Wait++ },
		"bound":   func(s *core.Spec) { s.Concurrency.PerInstance++ },
		"root":    func(s *core.Spec) { s.Root.Writable++ },
		"weight":  func(s *core.Spec) { s.CPUWeight++ },
		"mount":   func(s *core.Spec) { s.Mounts = []core.Mount{{Name: "a", Path: "/a"}} },
	} {
		b := a
		change(&b)
		if a.Equal(b) || b.Equal(a) {
			t.Errorf("specs with another %s are equal", name)
		}
	}
	if !(core.Spec{}).Equal(core.Spec{Command: []string{}, Env: map[string]string{}}) {
		t.Error("nil and empty differ")
	}
}

// Every bound is named in its error, with the key it is of.
func TestValidate(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	job := func(s *core.Spec) { s.Contract, s.Port = core.ContractJob, 0 }
	fdk := func(s *core.Spec) { s.Contract, s.Port = core.ContractFDK, 0 }
	for _, tc := range []struct {
		name   string
		change func(*core.Spec)
		texts  []string // none: it is valid
	}{
		{"defaults", func(*core.Spec) {}, nil},
		{"image", func(s *core.Spec) { s.Image = "" }, []string{"image"}},
		{"contract", func(s *core.Spec) { s.Contract = "fax" }, []string{`contract "fax"`, "job", "http"}},
		{"network", func(s *core.Spec) { s.Network = "host" }, []string{`network "host"`, "egress", "none"}},
		{"memory low", func(s *core.Spec) { s.Memory = 4*core.MiB - 1 }, []string{"memory", "4MiB", "4TiB"}},
		{"memory least", func(s *core.Spec) { s.Memory = 4 * core.MiB }, nil},
		{"memory most", func(s *core.Spec) { s.Memory = 4 * core.TiB }, nil},
		{"memory high", func(s *core.Spec) { s.Memory = 4*core.TiB + 1 }, []string{"memory", "4MiB", "4TiB"}},
		{"cpu low", func(s *core.Spec) { s.CPU = 9 }, []string{"cpu 0.009", "0.01", "1024"}},
		{"cpu least", func(s *core.Spec) { s.CPU = 10 }, nil},
		{"cpu most", func(s *core.Spec) { s.CPU = core.MaxCPU }, nil},
		{"cpu high", func(s *core.Spec) { s.CPU = core.MaxCPU + 1 }, []string{"cpu 1024.001", "0.01", "1024"}},
		{"weight low", func(s *core.Spec) { s.CPUWeight = -1 }, []string{"cpu_weight is -1", "1 to 10000"}},
		{"weight most", func(s *core.Spec) { s.CPUWeight = 10_000 }, nil},
		{"weight high", func(s *core.Spec) { s.CPUWeight = 10_001 }, []string{"cpu_weight is 10001", "1 to 10000"}},
		{"root low", func(s *core.Spec) { s.Root.Writable = 1 }, []string{"writable(1B)", "64KiB"}},
		{"root most", func(s *core.Spec) { s.Root.Writable = s.Memory }, nil},
		{"root high", func(s *core.Spec) { s.Root.Writable = s.Memory + 1 }, []string{"writable(134217729B)", "memory of 128MiB"}},
		{"mounts", func(s *core.Spec) {
			s.Mounts = mounts("/data", "/data2", "/run/data", "/tmp/data", "/etc/app", "/var/a")
		}, nil},
		{"mounts most", func(s *core.Spec) { s.Mounts = make([]core.Mount, 17) }, []string{"17 mounts", "16"}},
		{"mount at the root", func(s *core.Spec) { s.Mounts = mounts("/") }, []string{"at /:"}},
		{"mount relative", func(s *core.Spec) { s.Mounts = mounts("data") }, []string{`"data"`, "absolute"}},
		{"mount up", func(s *core.Spec) { s.Mounts = mounts("/data/../proc") }, []string{`"/data/../proc"`, "absolute"}},
		{"mount with a slash", func(s *core.Spec) { s.Mounts = mounts("/data/") }, []string{`"/data/"`, "absolute"}},
		{"mount at /proc", func(s *core.Spec) { s.Mounts = mounts("/proc/self") }, []string{"/proc/self", "Dayfly's own"}},
		{"mount at /dev", func(s *core.Spec) { s.Mounts = mounts("/dev") }, []string{"/dev", "Dayfly's own"}},
		{"mount over secrets", func(s *core.Spec) { s.Mounts = mounts("/run") }, []string{"/run", "/run/secrets", "Dayfly's own"}},
		{"mount among secrets", func(s *core.Spec) { s.Mounts = mounts("/run/secrets/a") }, []string{"/run/secrets", "Dayfly's own"}},
		{"mount over sockets", func(s *core.Spec) { s.Mounts = mounts("/tmp") }, []string{"/tmp", "/tmp/iofs", "Dayfly's own"}},
		{"mount over names", func(s *core.Spec) { s.Mounts = mounts("/etc") }, []string{"/etc"}},
		{"mount long", func(s *core.Spec) { s.Mounts = mounts("/" + strings.Repeat("a", 256)) }, []string{"255 bytes"}},
		{"mount with a new line", func(s *core.Spec) { s.Mounts = mounts("/a\nb") }, []string{"control character"}},
		{"mounts at one path", func(s *core.Spec) { s.Mounts = mounts("/a", "/a") }, []string{"/a and /a", "way"}},
		{"mounts in another", func(s *core.Spec) { s.Mounts = mounts("/a/b", "/a") }, []string{"/a/b and /a", "way"}},
		{"mount without a name", func(s *core.Spec) { s.Mounts = []core.Mount{{Path: "/a"}} }, []string{"name of the directory"}},
		{"timeout low", func(s *core.Spec) { s.Timeout = time.Millisecond - 1 }, []string{"timeout", "1ms", "24h"}},
		{"timeout most", func(s *core.Spec) { s.Timeout = day }, nil},
		{"timeout high", func(s *core.Spec) { s.Timeout = day + 1 }, []string{"timeout", "1ms", "24h"}},
		{"args", func(s *core.Spec) { job(s); s.Args = "all" }, []string{"args", `"all"`, `"body"`}},
		{"args of a job", func(s *core.Spec) { job(s); s.Args = core.ArgsBody }, nil},
		{"args of http", func(s *core.Spec) { s.Args = core.ArgsBody }, []string{"args", "job only"}},
		{"stream of a job", func(s *core.Spec) { job(s); s.Stream, s.ContentType = true, "text/csv" }, nil},
		{"stream of http", func(s *core.Spec) { s.Stream = true }, []string{"stream", "job only"}},
		{"content type of http", func(s *core.Spec) { s.ContentType = "text/csv" }, []string{"content_type", "job only"}},
		{"port of a job", func(s *core.Spec) { s.Contract = core.ContractJob }, []string{"port", "job"}},
		{"port low", func(s *core.Spec) { s.Port = -1 }, []string{"port -1", "1 to 65535"}},
		{"port high", func(s *core.Spec) { s.Port = 65536 }, []string{"port 65536", "1 to 65535"}},
		{"instances", func(s *core.Spec) { s.Instances.Max = -1 }, []string{"instances.max is -1", "0"}},
		{"freeze", func(s *core.Spec) { s.Instances.Freeze = time.Nanosecond }, []string{"instances.freeze is 1ns", "1ms", "never"}},
		{"min", func(s *core.Spec) { s.Instances.Min = 1000 }, nil},
		{"min low", func(s *core.Spec) { s.Instances.Min = -1 }, []string{"instances.min is -1", "0 to 1000"}},
		{"min high", func(s *core.Spec) { s.Instances.Min = 1001 }, []string{"instances.min is 1001", "0 to 1000"}},
		{"min and max", func(s *core.Spec) { s.Instances.Min, s.Instances.Max = 3, 3 }, nil},
		{"min over max", func(s *core.Spec) { s.Instances.Min, s.Instances.Max = 4, 3 }, []string{"instances.min is 4", "instances.max is 3"}},
		{"min of a job", func(s *core.Spec) { job(s); s.Instances.Min = 1 }, []string{"instances.min", "job"}},
		{"idle", func(s *core.Spec) { s.Instances.Idle = -time.Second }, []string{"instances.idle is -1s", "1ms"}},
		{"per instance low", func(s *core.Spec) { s.Concurrency.PerInstance = -1 }, []string{"concurrency.per_instance is -1", "1 to 1000"}},
		{"per instance most", func(s *core.Spec) { s.Concurrency.PerInstance = 1000 }, nil},
		{"per instance high", func(s *core.Spec) { s.Concurrency.PerInstance = 1001 }, []string{"concurrency.per_instance is 1001", "1 to 1000"}},
		{"one per job", job, nil},
		{"a function of fdk", fdk, nil},
		{"port of fdk", func(s *core.Spec) { s.Contract = core.ContractFDK }, []string{"port", "fdk"}},
		{"args of fdk", func(s *core.Spec) { fdk(s); s.Args = core.ArgsBody }, []string{"args", "job only"}},
		{"stream of fdk", func(s *core.Spec) { fdk(s); s.Stream = true }, []string{"stream", "job only"}},
		{"content type of fdk", func(s *core.Spec) { fdk(s); s.ContentType = "a/b" }, []string{"content_type", "job only"}},
		{"two per instance of fdk", func(s *core.Spec) { fdk(s); s.Concurrency.PerInstance = 2 }, []string{"concurrency.per_instance", "one request at a time"}},
		{"two per job", func(s *core.Spec) { job(s); s.Concurrency.PerInstance = 2 }, []string{"concurrency.per_instance", "http only", "job"}},
		{"less than none per job", func(s *core.Spec) { job(s); s.Concurrency.PerInstance = -1 }, []string{"concurrency.per_instance", "http only", "job"}},
		{"start low", func(s *core.Spec) { s.Limits.Start = 1 }, []string{"limits.start", "1ms to 1h"}},
		{"start high", func(s *core.Spec) { s.Limits.Start = day }, []string{"limits.start", "1ms to 1h"}},
		{"wait low", func(s *core.Spec) { s.Limits.Wait = -1 }, []string{"limits.wait", "1ms to 1h"}},
		{"wait high", func(s *core.Spec) { s.Limits.Wait = time.Hour + 1 }, []string{"limits.wait", "1ms to 1h"}},
		{"body low", func(s *core.Spec) { s.Limits.Body = -1 }, []string{"limits.body", "1B to 1GiB"}},
		{"body high", func(s *core.Spec) { s.Limits.Body = core.GiB + 1 }, []string{"limits.body", "1B to 1GiB"}},
		{"result high", func(s *core.Spec) { s.Limits.Result = core.GiB + 1 }, []string{"limits.result", "1B to 1GiB"}},
		{"log high", func(s *core.Spec) { s.Limits.Log = 64*core.MiB + 1 }, []string{"limits.log", "1B to 64MiB"}},
		{"headers high", func(s *core.Spec) { s.Limits.Headers = core.MiB + 1 }, []string{"limits.headers", "1B to 1MiB"}},
		{"tmp high", func(s *core.Spec) { s.Limits.Tmp = core.TiB + 1 }, []string{"limits.tmp", "1B to 1TiB"}},
		{"pids low", func(s *core.Spec) { s.Limits.Pids = -1 }, []string{"limits.pids is -1", "1 to 4194304"}},
		{"pids high", func(s *core.Spec) { s.Limits.Pids = 1<<22 + 1 }, []string{"limits.pids", "1 to 4194304"}},
		{"files high", func(s *core.Spec) { s.Limits.Files = 1<<20 + 1 }, []string{"limits.files", "1 to 1048576"}},
		{"waiting high", func(s *core.Spec) { s.Limits.Waiting = 1_000_001 }, []string{"limits.waiting", "1 to 1000000"}},
		{"env", func(s *core.Spec) { s.Env = map[string]string{"A": "=", "b.c": ""} }, nil},
		{"env no name", func(s *core.Spec) { s.Env = map[string]string{"": "x"} }, []string{"env name"}},
		{"env =", func(s *core.Spec) { s.Env = map[string]string{"A=B": "x"} }, []string{`env name "A=B"`}},
		{"env zero", func(s *core.Spec) { s.Env = map[string]string{"A": "a\x00"} }, []string{"env A", "zero byte"}},
		{"env ours", func(s *core.Spec) { s.Env = map[string]string{"DAYFLY_X": "x"} }, []string{"DAYFLY_X", "kept"}},
	} {
		spec := core.Spec{Image: "i"}.WithDefaults()
		tc.change(&spec)
		err := spec.Validate()
		if tc.texts == nil {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if !core.IsKind(err, core.KindInvalid) {
			t.Errorf("%s: got %v", tc.name, err)
			continue
		}
		for _, s := range tc.texts {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: the error %q does not have %q", tc.name, err, s)
			}
		}
	}
}

func TestETag(t *testing.T) {
	t.Parallel()
	if got := (core.Function{Revision: 36}).ETag(); got != `"10"` {
		t.Errorf("got %s", got)
	}
}
