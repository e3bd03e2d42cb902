package op

// Boot executes a script by its own shebang in the booted system, when that has come
// to rest and, if the step has a network, is online. Without a shebang it is
// /bin/sh's. A shell script ends at its first failing line.
type Boot struct {
	Script      string            `hcl:"script" json:"script"`
	Environment map[string]Secret `hcl:"environment,optional" json:"environment,omitempty"`
}

// Kind implements Operation.
func (*Boot) Kind() string { return "boot" }

// Version implements Operation.
func (*Boot) Version() int { return 1 }

// Check implements Operation.
func (b *Boot) Check() []Problem { return b.run().Check() }

// run is the same on the quiet disk.
func (b *Boot) run() *Run { return &Run{Script: b.Script, Environment: b.Environment} }

// Booted tells whether an operation is carried out in the booted system instead of on
// the quiet disk.
func Booted(o Operation) bool {
	switch o.(type) {
	case *Ansible, *Boot, *CloudInit, *Puppet:
		return true
	}
	return false
}
