package target

import (
	"fmt"

	"herdbook/internal/op"
)

// OVA is an appliance in one file, for VirtualBox and what imports the like.
type OVA struct {
	CPUs   int `hcl:"cpus,optional" json:"cpus"`
	Memory int `hcl:"memory,optional" json:"memory"` // MiB
}

// Kind implements Target.
func (*OVA) Kind() string { return "ova" }

// Version implements Target.
func (*OVA) Version() int { return 1 }

// Variant implements Target.
func (*OVA) Variant() string { return "" }

// Adjustments implements Target.
func (*OVA) Adjustments() []Adjustment { return []Adjustment{virtualboxDrivers()} }

// Check implements Target.
func (o *OVA) Check() []op.Problem { return checkMachine(o.CPUs, o.Memory) }

// checkMachine holds the size of a virtual machine against what any of them can have.
func checkMachine(cpus, memory int) (problems []op.Problem) {
	if cpus < 1 || cpus > 64 {
		problems = append(problems, op.Problem{Field: "cpus", Message: fmt.Sprintf("%d is not from 1 to 64", cpus)})
	}
	if memory < 128 || memory > 1<<20 {
		problems = append(problems, op.Problem{Field: "memory", Message: fmt.Sprintf("%d is not from 128 to %d", memory, 1<<20), Hint: "it is in MiB"})
	}
	return problems
}
