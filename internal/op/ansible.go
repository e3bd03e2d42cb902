package op

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Ansible plays a playbook on the booted system: the host's ansible-playbook does, over
// SSH, which ends in a server of the agent's own. The guest needs Python, and neither an
// SSH server nor a network. A second run must change nothing.
type Ansible struct {
	Playbook  string            `hcl:"playbook" json:"playbook"`                        // path on the host, relative to the definition
	Directory string            `hcl:"directory,optional" json:"directory,omitempty"`   // what the playbook may use: it, and all that is below it; default the playbook's own
	Host      string            `hcl:"host,optional" json:"host,omitempty"`             // the name in the inventory; default DefaultAnsibleHost
	Groups    []string          `hcl:"groups,optional" json:"groups,omitempty"`         // of the inventory that the host is in
	Variables map[string]Secret `hcl:"extra_vars,optional" json:"extra_vars,omitempty"` // strings
	Vault     Secret            `hcl:"vault_password,optional" json:"vault_password,omitzero"`
	Tags      []string          `hcl:"tags,optional" json:"tags,omitempty"`           // only tasks with one of them
	SkipTags  []string          `hcl:"skip_tags,optional" json:"skip_tags,omitempty"` // no tasks with one of them
	Arguments []string          `hcl:"arguments,optional" json:"arguments,omitempty"` // further ones of ansible-playbook
	User      string            `hcl:"user,optional" json:"user,omitempty"`           // the account to come in as; default root
	Become    bool              `hcl:"become,optional" json:"become,omitempty"`       // the account becomes root for every task
	Python    string            `hcl:"python,optional" json:"python,omitempty"`       // interpreter in the guest; default the one that Ansible finds

	Idempotent *bool `hcl:"idempotent,optional" json:"idempotent,omitempty"` // a second run must change nothing; default true
}

// AnsibleTemporary is the directory of the guest, on no disk, where Ansible lays modules
// for every account. Systemd tells the journal of its mount, and nothing of herdbook in it.
const AnsibleTemporary = "/run/ansible"

// DefaultAnsibleHost is what a playbook calls the image's machine.
const DefaultAnsibleHost = "image"

var (
	ansibleHost  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?$`)
	ansibleGroup = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	ansibleTag   = regexp.MustCompile(`^[^\s,-][^\s,]*$`)
)

// Kind implements Operation.
func (*Ansible) Kind() string { return "ansible" }

// Version implements Operation.
func (*Ansible) Version() int { return 1 }

// Tree is the directory on the host that is the playbook's.
func (a *Ansible) Tree() string { return cmp.Or(a.Directory, path.Dir(a.Playbook)) }

// InTree is the playbook's path below the Tree; false if it does not lie there.
func (a *Ansible) InTree() (string, bool) {
	tree, playbook := path.Clean(a.Tree()), path.Clean(a.Playbook)
	if tree == "." {
		return playbook, !path.IsAbs(playbook) && playbook != ".." && !strings.HasPrefix(playbook, "../")
	}
	return strings.CutPrefix(playbook, strings.TrimSuffix(tree, "/")+"/")
}

// InventoryHost is the name of the machine in the inventory.
func (a *Ansible) InventoryHost() string { return cmp.Or(a.Host, DefaultAnsibleHost) }

// Account is who Ansible comes in as.
func (a *Ansible) Account() string { return cmp.Or(a.User, "root") }

// Twice tells whether a second run must change nothing.
func (a *Ansible) Twice() bool { return a.Idempotent == nil || *a.Idempotent }

// Check implements Operation.
func (a *Ansible) Check() []Problem {
	var problems []Problem
	if a.Playbook == "" {
		return []Problem{{"playbook", "the path of the playbook is empty", ""}}
	}
	if name, ok := a.InTree(); !ok || name == "" {
		problems = append(problems, Problem{"playbook", fmt.Sprintf("%q does not lie in the directory %q", a.Playbook, a.Tree()), "directory is where the playbook and all that it uses lie"})
	}
	if !ansibleHost.MatchString(a.InventoryHost()) {
		problems = append(problems, Problem{"host", fmt.Sprintf("%q is not the name of a host", a.Host), ""})
	}
	for _, g := range a.Groups {
		if !ansibleGroup.MatchString(g) || g == "all" || g == "ungrouped" || g == a.InventoryHost() {
			problems = append(problems, Problem{"groups", fmt.Sprintf("%q is not the name of a group", g), "every host is in the group all anyway"})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.Variables)) {
		if !variable.MatchString(name) {
			problems = append(problems, Problem{"extra_vars", fmt.Sprintf("%q is not the name of a variable", name), ""})
		}
		if slices.Contains([]string{"ansible_connection", "ansible_host", "ansible_port", "ansible_user", "ansible_ssh_common_args", "ansible_ssh_extra_args"}, name) {
			problems = append(problems, Problem{"extra_vars", fmt.Sprintf("%s is the step's own: it says how the machine is reached", name), ""})
		}
	}
	for field, tags := range map[string][]string{"tags": a.Tags, "skip_tags": a.SkipTags} {
		for _, tag := range tags {
			if !ansibleTag.MatchString(tag) {
				problems = append(problems, Problem{field, fmt.Sprintf("%q is not a tag", tag), ""})
			}
		}
	}
	return append(problems, a.checkRun()...)
}

// checkRun holds how the playbook is run.
func (a *Ansible) checkRun() []Problem {
	var problems []Problem
	if strings.ContainsAny(a.Vault.Value, "\n\x00") {
		problems = append(problems, Problem{"vault_password", "the password has more than one line", "does its file end in a line break? use trimspace()"})
	}
	for _, argument := range a.Arguments {
		if argument == "" || strings.ContainsRune(argument, 0) {
			problems = append(problems, Problem{"arguments", fmt.Sprintf("%q is not an argument", argument), ""})
		}
	}
	if a.User != "" {
		problems = append(problems, checkAccount("user", a.User)...)
	}
	if a.Python != "" {
		problems = append(problems, checkPath("python", a.Python)...)
	}
	return problems
}
