package op

// Relabel gives every file the label that the guest's SELinux policy has for it,
// or lets the guest do so at its first boot if that cannot be done now. A guest
// without SELinux, or with a disabled one, stays as it is.
type Relabel struct {
	Exclude []string `hcl:"exclude,optional" json:"exclude,omitempty"` // directories to be left as they are
	AtBoot  bool     `hcl:"at_boot,optional" json:"at_boot,omitempty"` // do not try now
}

// Kind implements Operation.
func (*Relabel) Kind() string { return "relabel" }

// Version implements Operation.
func (*Relabel) Version() int { return 1 }

// Check implements Operation.
func (r *Relabel) Check() []Problem {
	if len(r.Exclude) == 0 {
		return nil
	}
	return checkPaths("exclude", r.Exclude)
}
