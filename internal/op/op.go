// Package op is the vocabulary of guest operations: what can be done to a
// machine image, as plain data with the rules of each field. The definition is
// decoded into these values, the plan hashes them, the wire carries them and
// package guest carries them out.
//
// The struct tags hold the names of a field in the definition (hcl) and on the
// wire (json).
package op

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Operation is one thing done to a guest.
type Operation interface {
	// Kind is the name in the definition and on the wire.
	Kind() string
	// Version is raised whenever the same arguments come to have another
	// effect, so that layers made the old way are not taken for new ones.
	Version() int
	// Check returns what is wrong with the arguments; nil when nothing is.
	Check() []Problem
}

// Problem is one thing wrong with one field of an operation.
type Problem struct {
	Field   string // the field's name in the definition; "" for the whole
	Message string // what is wrong, a sentence without the full stop
	Hint    string // what to do; may be empty
}

// kinds makes an empty operation of each kind. User tells whether a step of
// the definition may name it; the others are made by the plan.
var kinds = []struct {
	make func() Operation
	user bool
}{
	{func() Operation { return &Packages{} }, true},
	{func() Operation { return &Run{} }, true},
	{func() Operation { return &File{} }, true},
	{func() Operation { return &Copy{} }, true},
	{func() Operation { return &Delete{} }, true},
	{func() Operation { return &User{} }, true},
	{func() Operation { return &Password{} }, true},
	{func() Operation { return &SSHKey{} }, true},
	{func() Operation { return &Hostname{} }, true},
	{func() Operation { return &Timezone{} }, true},
	{func() Operation { return &Service{} }, true},
	{func() Operation { return &AppendLine{} }, true},
	{func() Operation { return &Chmod{} }, true},
	{func() Operation { return &Chown{} }, true},
	{func() Operation { return &Duplicate{} }, true},
	{func() Operation { return &Move{} }, true},
	{func() Operation { return &Link{} }, true},
	{func() Operation { return &Mkdir{} }, true},
	{func() Operation { return &Touch{} }, true},
	{func() Operation { return &Truncate{} }, true},
	{func() Operation { return &Scrub{} }, true},
	{func() Operation { return &TarIn{} }, true},
	{func() Operation { return &Edit{} }, true},
	{func() Operation { return &Relabel{} }, true},
	{func() Operation { return &Firstboot{} }, true},
	{func() Operation { return &Boot{} }, true},
	{func() Operation { return &Puppet{} }, true},
	{func() Operation { return &Ansible{} }, true},
	{func() Operation { return &CloudInit{} }, true},
	{func() Operation { return &Sysprep{} }, false},
	{func() Operation { return &Bootloader{} }, false},
	{func() Operation { return &Agent{} }, false},
}

// StepKinds lists the kinds that a step of a definition may name.
func StepKinds() []string {
	var names []string
	for _, k := range kinds {
		if k.user {
			names = append(names, k.make().Kind())
		}
	}
	return names
}

// New returns an empty operation of a kind, a pointer to its struct; ok is
// false if there is no such kind.
func New(kind string) (operation Operation, ok bool) {
	for _, k := range kinds {
		if o := k.make(); o.Kind() == kind {
			return o, true
		}
	}
	return nil, false
}

// Envelope carries an operation in JSON as {"kind": …, "arguments": {…}}.
type Envelope struct{ Operation }

// MarshalJSON implements json.Marshaler. Secrets are written in clear: the
// envelope is for the wire, never for a record.
func (e Envelope) MarshalJSON() ([]byte, error) {
	arguments, err := json.Marshal(e.Operation)
	if err != nil {
		return nil, fmt.Errorf("encode operation %s: %w", e.Kind(), err)
	}
	return json.Marshal(envelope{e.Kind(), arguments})
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *Envelope) UnmarshalJSON(p []byte) error {
	var raw envelope
	if err := json.Unmarshal(p, &raw); err != nil {
		return fmt.Errorf("decode operation: %w", err)
	}
	o, ok := New(raw.Kind)
	if !ok {
		return fmt.Errorf("decode operation: no kind %q", raw.Kind)
	}
	if err := json.Unmarshal(raw.Arguments, o); err != nil {
		return fmt.Errorf("decode operation %s: %w", raw.Kind, err)
	}
	e.Operation = o
	return nil
}

type envelope struct {
	Kind      string          `json:"kind"`
	Arguments json.RawMessage `json:"arguments"`
}

// Secret is a value that may come from env() in the definition. It crosses the
// wire and stands nowhere else.
type Secret struct {
	Value   string `json:"value"`             // never logged, never hashed when Name is set
	Name    string `json:"name,omitempty"`    // of the environment variable; "" for a literal
	Version string `json:"version,omitempty"` // raised by the user when the value changed
	// The value with the names of its secrets in the places of theirs; "" if that is
	// not known.
	Around string `json:"-"`
	// The values of its environment variables, of which Value may be made with other
	// text.
	Parts []string `json:"-"`
}

// IsZero tells whether the definition says nothing.
func (s Secret) IsZero() bool { return s.Value == "" && s.Name == "" }

// String hides the value from every format verb that prints strings.
func (s Secret) String() string {
	if s.Name == "" {
		return "(literal)"
	}
	return fmt.Sprintf("(secret %s %s)", s.Name, s.Version)
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return s.String() }

// Values are those that must be blotted out wherever the secret is used; none of a
// literal, and none that is empty.
func (s Secret) Values() []string {
	if s.Name == "" {
		return nil
	}
	return slices.DeleteFunc(append([]string{s.Value}, s.Parts...), func(v string) bool { return v == "" })
}

// Secrets returns the values that must be blotted out of everything that an
// operation prints: those of named secrets, empty ones left out.
func Secrets(operations ...Operation) []string {
	var values []string
	add := func(s Secret) {
		for _, value := range s.Values() {
			if !slices.Contains(values, value) {
				values = append(values, value)
			}
		}
	}
	for _, o := range operations {
		switch o := o.(type) {
		case *CloudInit:
			add(o.UserData)
		case *Ansible:
			add(o.Vault)
			for _, s := range o.Variables {
				add(s)
			}
		case *Password:
			add(o.Password)
		case *Puppet:
			add(o.Challenge)
		case *Run:
			for _, s := range o.Environment {
				add(s)
			}
		case *Boot:
			for _, s := range o.Environment {
				add(s)
			}
		}
	}
	return values
}
