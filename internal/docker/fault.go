package docker

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/dayfly-io/dayfly/internal/core"
)

// What the engine says of a user or a group that an image does not have.
var unknownUser = regexp.MustCompile(`unable to find (user|group) ([^:]+):`)

// explain says what an error of a start means to the owner of the function.
func explain(spec core.InstanceSpec, p process, err error) error {
	if _, ok := errors.AsType[*core.Error](err); ok {
		return err
	}
	if step, ok := errors.AsType[*stepError](err); ok {
		return explainStep(spec, p, step)
	}
	name, text := spec.App+"/"+spec.Function, err.Error()
	if m := unknownUser.FindStringSubmatch(text); m != nil {
		file := map[string]string{"user": "etc/passwd", "group": "etc/group"}[m[1]]
		return &core.Error{
			Kind: core.KindInvalid, Code: core.ReasonImageUnsupported, Err: err,
			Message: "the " + m[1] + " " + m[2] + " is not in the image's " + file + ": use its number, or add it",
		}
	}
	switch {
	case errdefs.IsNotFound(err) && strings.Contains(strings.ToLower(text), "image"):
		return noImage(spec.Digest, err)
	case strings.Contains(text, "no space left on device"), strings.Contains(text, "disk quota exceeded"):
		return core.Unavailable(core.ReasonDiskFull, err, "the disk of the Docker engine is full: free some space, it goes on by itself")
	case client.IsErrConnectionFailed(err):
		return core.Unavailable(core.CodeUnavailable, err, "the Docker engine does not answer")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &core.Error{Kind: core.KindTimeout, Code: core.ReasonStartTimeout, Message: "the container was not set up in time", Err: err}
	}
	return &core.Error{
		Kind: core.KindInternal, Code: core.ReasonStartFailed, Err: err,
		Message: "the Docker engine could not start the container of " + name,
	}
}

func noImage(ref string, err error) error {
	return &core.Error{
		Kind: core.KindNotFound, Code: core.ReasonImageNotFound, Err: err,
		Message: "there is no image " + ref + " in the Docker engine: deploy it again",
	}
}

// explainStep says why init could not start the function's process.
func explainStep(spec core.InstanceSpec, p process, step *stepError) error {
	name, program := spec.App+"/"+spec.Function, p.args[0]
	fault := func(code core.Code, text string) error {
		return &core.Error{Kind: core.KindFunction, Code: code, Message: text, Err: step}
	}
	switch {
	case step.step == "exec" && step.err == syscall.E2BIG:
		return fault(core.ReasonStartFailed, "the arguments and environment of "+name+
			" are larger than the kernel takes: 128 KiB for each, 2 MiB for all")
	case step.step == "exec" && (step.err == syscall.ENOENT || step.err == syscall.ENOTDIR):
		return fault(core.ReasonStartFailed, "the image of "+name+" has no program "+program+
			" (or the interpreter that it names is missing): check entrypoint, cmd and command")
	case step.step == "exec" && step.err == syscall.EACCES:
		return fault(core.ReasonStartFailed, "the program "+program+" in the image of "+name+" may not be executed: check its mode")
	case step.step == "exec" && step.err == syscall.ENOEXEC:
		return fault(core.ReasonImageUnsupported, "the program "+program+" in the image of "+name+
			" is not one that this machine can execute: it is for another architecture, or a script without a #! line")
	case step.step == "enter the working directory":
		return fault(core.ReasonStartFailed, "the working directory "+p.dir+" of the image of "+name+" cannot be entered: "+step.err.Error())
	case step.err == syscall.ENOMEM:
		return fault(core.ReasonOOMKilled, "the memory limit "+spec.Memory.String()+" of "+name+" is too small to start it: raise memory")
	}
	return fault(core.ReasonStartFailed, "the container of "+name+" could not be set up: "+step.Error())
}
