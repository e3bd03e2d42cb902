package op

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Sysprep makes the image fit to be cloned: what names one machine is removed.
//
// Which operations are done is said in virt-sysprep's syntax. An entry of any list
// may hold several, with commas between them.
type Sysprep struct {
	// Operations adds to an empty selection, or to that of Enable, in the order
	// given: NAME, -NAME, defaults, -defaults, all, -all.
	Operations []string `hcl:"operations,optional" json:"operations,omitempty"`
	// Enable names exactly those operations that are done.
	Enable []string `hcl:"enable,optional" json:"enable,omitempty"`
	// RemoveUserAccounts restricts user-account to these accounts.
	RemoveUserAccounts []string `hcl:"remove_user_accounts,optional" json:"remove_user_accounts,omitempty"`
	// KeepUserAccounts are accounts that user-account lets be.
	KeepUserAccounts []string `hcl:"keep_user_accounts,optional" json:"keep_user_accounts,omitempty"`
	// Scripts are the texts of the operation script. Unlike virt-sysprep's they
	// run in the guest, with the guest's programs.
	Scripts []string `hcl:"scripts,optional" json:"scripts,omitempty"`
	// MachineID is what machine-id leaves: "" for an empty file, "uninitialized"
	// for the word that makes systemd take the next boot for the first.
	MachineID string `hcl:"machine_id,optional" json:"machine_id,omitempty"`
}

// SysprepPhase tells what an operation of sysprep works on.
type SysprepPhase string

// The phases, in the order in which they are carried out.
const (
	SysprepFiles  SysprepPhase = "files"  // the mounted guest
	SysprepDevice SysprepPhase = "device" // the unmounted disk
)

// SysprepOperation is one thing that sysprep can do.
type SysprepOperation struct {
	Name        string // virt-sysprep's, where it has one
	Default     bool   // done unless something else is asked for
	Phase       SysprepPhase
	Heading     string // what it does, in one line without the full stop
	Description string // what exactly it does, as Markdown
	Difference  string // from virt-sysprep's operation of the same name, and why
}

// UninitializedMachineID is the other value of Sysprep.MachineID.
const UninitializedMachineID = "uninitialized"

// SelectSysprep resolves a selection. The operations come in the order in which
// they are carried out, each once; without any selection they are the defaults.
// What it has no meaning for is a problem.
func SelectSysprep(operations, enable []string) ([]SysprepOperation, []Problem) {
	var problems []Problem
	chosen := map[string]bool{}
	if len(operations) == 0 && len(enable) == 0 {
		operations = []string{"defaults"}
	}
	for _, name := range entries(enable) {
		if !isSysprepOperation(name) {
			problems = append(problems, unknownSysprep("enable", name))
		}
		chosen[name] = true
	}
	for _, entry := range entries(operations) {
		name, removed := strings.CutPrefix(entry, "-")
		if name != "all" && name != "defaults" && !isSysprepOperation(name) {
			problems = append(problems, unknownSysprep("operations", name))
		}
		for _, o := range SysprepOperations {
			if o.Name == name || name == "all" || name == "defaults" && o.Default {
				chosen[o.Name] = !removed
			}
		}
	}
	var selected []SysprepOperation
	for _, o := range SysprepOperations {
		if chosen[o.Name] {
			selected = append(selected, o)
		}
	}
	return selected, problems
}

// Selected returns the operations to be carried out, in their order.
func (s *Sysprep) Selected() []SysprepOperation {
	selected, _ := SelectSysprep(s.Operations, s.Enable)
	return selected
}

// Does tells whether an operation is among those to be carried out.
func (s *Sysprep) Does(name string) bool {
	return slices.ContainsFunc(s.Selected(), func(o SysprepOperation) bool { return o.Name == name })
}

// RemovedAccounts are the names in RemoveUserAccounts, sorted.
func (s *Sysprep) RemovedAccounts() []string { return sortedEntries(s.RemoveUserAccounts) }

// KeptAccounts are the names in KeepUserAccounts, sorted.
func (s *Sysprep) KeptAccounts() []string { return sortedEntries(s.KeepUserAccounts) }

// Check implements Operation.
func (s *Sysprep) Check() []Problem {
	_, problems := SelectSysprep(s.Operations, s.Enable)
	problems = append(problems, s.checkAccounts("remove_user_accounts", s.RemoveUserAccounts)...)
	problems = append(problems, s.checkAccounts("keep_user_accounts", s.KeepUserAccounts)...)
	for _, script := range s.Scripts {
		for _, p := range (&Run{Script: script}).Check() {
			problems = append(problems, Problem{"scripts", p.Message, ""})
		}
	}
	if len(s.Scripts) > 0 && !s.Does("script") {
		problems = append(problems, Problem{"scripts", `there are scripts, but the operation "script" is off`, "add script to the operations"})
	}
	switch {
	case s.MachineID != "" && s.MachineID != UninitializedMachineID:
		problems = append(problems, Problem{"machine_id", fmt.Sprintf("%q is nothing that machine-id can leave", s.MachineID), `leave it out for an empty file, or say "uninitialized"`})
	case s.MachineID != "" && !s.Does("machine-id"):
		problems = append(problems, Problem{"machine_id", `the operation "machine-id" is off`, "add machine-id to the operations"})
	}
	return problems
}

func (s *Sysprep) checkAccounts(field string, accounts []string) []Problem {
	var problems []Problem
	for _, name := range entries(accounts) {
		if name == "" || strings.ContainsAny(name, ":/\n\x00") {
			problems = append(problems, Problem{field, fmt.Sprintf("%q is not the name of an account", name), ""})
		}
	}
	if len(accounts) > 0 && !s.Does("user-account") {
		problems = append(problems, Problem{field, `the operation "user-account" is off`, "it is not among the defaults: add user-account to the operations"})
	}
	return problems
}

func isSysprepOperation(name string) bool {
	return slices.ContainsFunc(SysprepOperations, func(o SysprepOperation) bool { return o.Name == name })
}

// unknownSysprep is the problem of a name that is none.
func unknownSysprep(field, name string) Problem {
	if name == "" {
		return Problem{field, "the name of an operation is empty", "look for a comma too many"}
	}
	hint, distance := "docs/sysprep.md lists all of them", 4
	for _, o := range SysprepOperations {
		if d := levenshtein.Distance(name, o.Name, nil); d < distance {
			hint, distance = fmt.Sprintf("the nearest is %q", o.Name), d
		}
	}
	return Problem{field, fmt.Sprintf("no sysprep operation %q", name), hint}
}

// entries takes lists with commas apart.
func entries(list []string) []string {
	var names []string
	for _, entry := range list {
		names = append(names, strings.Split(entry, ",")...)
	}
	return names
}

func sortedEntries(list []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(entries(list))))
}
