// Package identity is what names a machine: its machine-id, its host keys, the
// identifiers that it shows to servers. The table of package scope says of each
// where it lies and whether two clones of one image may share it; Gather reads
// them in a system's tree, and Compare holds two clones against each other.
//
// It reads only what it is handed. A value that is a secret is never a fact, only
// its digest is.
package identity

import (
	"slices"
)

// Fact is one thing that names a machine.
type Fact struct {
	Name  string `json:"name"`            // one of Names
	Value string `json:"value,omitempty"` // as it stands there, or a digest; "": the machine should have one and has none
	Where string `json:"where"`           // path in the guest
}

// policy is what is asked of two clones of one image.
type policy int

const (
	differ policy = iota // what they have is not shared; they may have none
	own                  // likewise, and each must have one, where the system uses it
	absent               // the image has none: what a clone finds at its start is shared
	equal                // they may share it
)

// kind is one row of the table.
type kind struct {
	name   string // that of sysprep's operation against it, where there is one
	policy policy
	// The operations of sysprep against it, where they are not named like it.
	remedies []string
	probes   []probe
	ignored  []string // values that name no machine
	// A machine that has any of these files must have one: for own.
	wanted []string
}

// Names lists everything that is looked for, in the order of the table.
func Names() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

// Rules says what Compare asks without exceptions, one line for each of Names: what
// was proved by one table is not proved by another.
func Rules() []string {
	rules := make([]string, len(kinds))
	for i, k := range kinds {
		rules[i] = k.name + " " + []string{"differ", "own", "absent", "equal"}[k.policy]
	}
	return rules
}

// with is the policy that the user's exceptions leave.
func (k kind) with(allow, require []string) policy {
	switch {
	case slices.Contains(allow, k.name):
		return equal
	case k.policy == equal && slices.Contains(require, k.name):
		return differ
	}
	return k.policy
}
