// Package contract holds what all contracts share: the part of a process's
// environment that does not depend on how Dayfly talks to it.
package contract

import (
	"strconv"

	"github.com/dayfly-io/dayfly/internal/core"
)

// Env gives the variables that the process of every contract gets, as K=V:
// DAYFLY_APP, DAYFLY_FUNCTION, DAYFLY_VERSION, DAYFLY_MEMORY (bytes),
// DAYFLY_CPU (cores, such as 0.5) and DAYFLY_NODE. The env of app and
// function is not among them; it comes before them, so that these win.
func Env(def *core.Definition, node string) []string {
	spec := &def.Version.Spec
	return []string{
		"DAYFLY_APP=" + def.App.Name,
		"DAYFLY_FUNCTION=" + def.Function.Name,
		"DAYFLY_VERSION=" + strconv.Itoa(def.Version.Number),
		"DAYFLY_MEMORY=" + strconv.FormatInt(int64(spec.Memory), 10),
		"DAYFLY_CPU=" + spec.CPU.String(),
		"DAYFLY_NODE=" + node,
	}
}
