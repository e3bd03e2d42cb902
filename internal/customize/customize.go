// Package customize turns the options of virt-customize into guest operations.
// The same table reads a command line, option by option, and a file of commands;
// it is documented in docs/customize.md.
//
// It reads nothing itself: what it needs of the host comes by the functions of a
// Host. Carrying the operations out is left to others.
package customize

import (
	"errors"
	"fmt"
	"strconv"

	"herdbook/internal/op"
)

// Host is what options need of the machine that they are given on.
type Host struct {
	// ReadFile reads a file that an option names: a script, a key, a password.
	ReadFile func(name string) ([]byte, error)
	// PublicKey is the SSH public key of the user, for --ssh-inject without one.
	PublicKey func() (string, error)
	// Password makes a random password.
	Password func() (string, error)
}

// Upload is a file or a tree of the host that an operation lays into the guest.
type Upload struct {
	Source  string // path on the host, as it was given
	Payload string // the name that it must have in the tar of files
}

// Generated is a password that was made up, which nobody knows but by being told.
type Generated struct{ User, Password string }

// Result is what all options together ask for.
type Result struct {
	Operations []op.Operation // in the order in which they are to be carried out
	Uploads    []Upload
	Generated  []Generated
}

// Options gathers options in the order in which they are given. Host must be set.
type Options struct {
	Host Host

	operations []op.Operation
	passwords  []*op.Password
	crypto     string
	uploads    []Upload
	generated  []Generated
	relabel    op.Relabel
	noRelabel  bool
	inFile     bool // an option of a file of commands is being added
}

// Add takes one option, by its name without hyphens; a switch has the value
// "true", or none. What is wrong with it is an error that says what is right.
func (o *Options) Add(name, value string) error {
	option, ok := Lookup(name)
	if !ok {
		return fmt.Errorf("there is no option --%s", name)
	}
	if option.Refused != "" {
		return fmt.Errorf("--%s is not offered: %s", name, option.Refused)
	}
	if option.Argument == "" && value != "" && value != "true" {
		return fmt.Errorf("--%s takes no argument", name)
	}
	if option.Argument != "" && value == "" {
		return fmt.Errorf("--%s needs an argument: %s", name, option.Argument)
	}
	add := option.add
	if name == commandsFromFile { // not in the table, which it leads to
		add = (*Options).addFile
	}
	if err := add(o, value); err != nil {
		return fmt.Errorf("--%s: %w", name, err)
	}
	return nil
}

// Result puts together what was added: operations in their order, then passwords,
// so that none of them is written into a log of something later, and SELinux's
// labels last, as all before may make files.
func (o *Options) Result() Result {
	r := Result{Operations: append([]op.Operation{}, o.operations...), Uploads: o.uploads, Generated: o.generated}
	for _, p := range o.passwords {
		set := *p
		if !set.Password.IsZero() {
			set.Crypto = o.crypto
		}
		r.Operations = append(r.Operations, &set)
	}
	if len(r.Operations) > 0 && !o.noRelabel {
		relabel := o.relabel
		r.Operations = append(r.Operations, &relabel)
	}
	return r
}

// push adds an operation, if nothing is wrong with it.
func (o *Options) push(operation op.Operation) error {
	if err := check(operation); err != nil {
		return err
	}
	o.operations = append(o.operations, operation)
	return nil
}

// check makes an error of the first of an operation's problems.
func check(operation op.Operation) error {
	problems := operation.Check()
	switch {
	case len(problems) == 0:
		return nil
	case problems[0].Hint == "":
		return errors.New(problems[0].Message)
	}
	return fmt.Errorf("%s: %s", problems[0].Message, problems[0].Hint)
}

// upload adds an operation that lays something of the host down; make gets the
// name that it has in the tar.
func (o *Options) upload(source string, make func(payload string) op.Operation) error {
	payload := strconv.Itoa(len(o.uploads))
	if err := o.push(make(payload)); err != nil {
		return err
	}
	o.uploads = append(o.uploads, Upload{source, payload})
	return nil
}

// Flag is one option as a flag of a command line. It is a Value of package flag
// and of spf13/pflag: each time that it is set, its option is added.
type Flag struct {
	Option
	options *Options
}

// Flag makes a flag of an option of Flags. For pflag, a switch (one without an
// Argument) needs a NoOptDefVal "true".
func (o *Options) Flag(option Option) *Flag { return &Flag{option, o} }

// Set adds the option.
func (f *Flag) Set(value string) error { return f.options.Add(f.Name, value) }

// String is the default, which is none.
func (*Flag) String() string { return "" }

// Type is the argument's shape.
func (f *Flag) Type() string { return f.Argument }

// IsBoolFlag tells package flag that a switch needs no argument.
func (f *Flag) IsBoolFlag() bool { return f.Argument == "" }
