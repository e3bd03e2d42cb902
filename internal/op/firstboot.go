package op

import (
	"fmt"
	"regexp"
	"strings"
)

// Firstboot leaves something in the image that a clone does once, at its first
// boot, when the network is up. Exactly one of Script, Command and Install is
// given. All of an image are done in the order of their steps; behind one that
// failed the others are not, unless it is Optional.
type Firstboot struct {
	Name     string   `hcl:"name" json:"name"`                            // for its log and its result
	Script   string   `hcl:"script,optional" json:"script,omitempty"`     // as of Run
	Command  string   `hcl:"command,optional" json:"command,omitempty"`   // a line for /bin/sh
	Install  []string `hcl:"install,optional" json:"install,omitempty"`   // packages
	Retries  int      `hcl:"retries,optional" json:"retries,omitempty"`   // further attempts when it failed or the machine went down
	Optional bool     `hcl:"optional,optional" json:"optional,omitempty"` // its failure does not keep the later ones from being done
}

// maxRetries bounds the attempts: with its pauses, they take a day.
const maxRetries = 1000

var firstbootName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$`)

// Kind implements Operation.
func (*Firstboot) Kind() string { return "firstboot" }

// Version implements Operation.
func (*Firstboot) Version() int { return 1 }

// Check implements Operation.
func (f *Firstboot) Check() []Problem {
	var problems []Problem
	if !firstbootName.MatchString(f.Name) {
		problems = append(problems, Problem{"name", fmt.Sprintf("%q is not a name", f.Name), "at most 60 letters, digits, dots, hyphens and underlines, a letter or digit first"})
	}
	given := 0
	for _, set := range []bool{strings.TrimSpace(f.Script) != "", strings.TrimSpace(f.Command) != "", len(f.Install) > 0} {
		if set {
			given++
		}
	}
	if given != 1 {
		problems = append(problems, Problem{"", "exactly one of script, command and install must be given", ""})
	}
	for field, text := range map[string]string{"script": f.Script, "command": f.Command} {
		if strings.ContainsRune(text, 0) {
			problems = append(problems, Problem{field, "it holds a NUL byte", ""})
		}
	}
	for _, name := range f.Install {
		if !packageName.MatchString(name) {
			problems = append(problems, Problem{"install", fmt.Sprintf("%q is not a package name", name), ""})
		}
	}
	if f.Retries < 0 || f.Retries > maxRetries {
		problems = append(problems, Problem{"retries", fmt.Sprintf("%d is not from 0 to %d", f.Retries, maxRetries), ""})
	}
	return problems
}
