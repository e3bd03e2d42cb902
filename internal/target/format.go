package target

import (
	"fmt"
	"slices"

	"herdbook/internal/op"
)

// Format is the disk itself, in a format that some place takes: raw, qcow2, vmdk, vhd (Azure),
// gce (Google's cloud) or ami (Amazon's cloud).
type Format struct {
	kind string

	Compression string `hcl:"compression,optional" json:"compression,omitempty"` // of qcow2: zstd, zlib or none
}

func newFormat(kind string) func(string) Target {
	return func(string) Target {
		f := &Format{kind: kind}
		if kind == "qcow2" {
			f.Compression = "zstd"
		}
		return f
	}
}

// Kind implements Target.
func (f *Format) Kind() string { return f.kind }

// Version implements Target.
func (*Format) Version() int { return 1 }

// Variant implements Target.
func (*Format) Variant() string { return "" }

// Adjustments implements Target: the disk is delivered as it is.
func (*Format) Adjustments() []Adjustment { return nil }

// compressions are those of qcow2.
var compressions = []string{"zstd", "zlib", "none"}

// Check implements Target.
func (f *Format) Check() []op.Problem {
	switch {
	case f.kind != "qcow2" && f.Compression != "":
		return []op.Problem{{Field: "compression", Message: fmt.Sprintf("a target %q has no choice of it", f.kind), Hint: "leave it away"}}
	case f.kind == "qcow2" && !slices.Contains(compressions, f.Compression):
		return []op.Problem{{Field: "compression", Message: fmt.Sprintf("there is no %q", f.Compression), Hint: "say zstd, zlib (for QEMU before 5.1) or none"}}
	}
	return nil
}
