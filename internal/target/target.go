// Package target is the vocabulary of the places that an image is delivered to: what a
// target block of the definition may say, the rules of its fields, and the adjustments
// that the place needs. Those are operations on top of the image, layers like any other.
// The packages below it write the artefacts, one package for each kind.
package target

import (
	"slices"

	"herdbook/internal/op"
)

// Target is what a target block says. Struct tags hold the names of the fields in the
// definition (hcl); all of them together, as JSON, name what is wanted.
type Target interface {
	// Kind is the name in the definition.
	Kind() string
	// Version is raised whenever the same arguments come to make other bytes of the
	// same image, so that an artefact made the old way is not taken for a new one.
	Version() int
	// Variant tells the targets of a kind apart that one image may have, such as
	// "virtualbox"; "" for a kind that it has once.
	Variant() string
	// Check returns what is wrong with the arguments; nil when nothing is.
	Check() []op.Problem
	// Adjustments are what the place needs on the image, in order; nil for nothing.
	Adjustments() []Adjustment
}

// Adjustment is one thing done to the image for the place.
type Adjustment struct {
	Name      string // of the step, as in a definition
	Operation op.Operation
	Network   bool // it reaches the network
}

// kinds make a target of each kind for an image of a name, with its defaults.
var kinds = []func(image string) Target{
	func(image string) Target {
		return &Docker{Tags: []string{image + ":latest"}, Formats: slices.Clone(DockerFormats), SBOM: true}
	},
	func(string) Target { return &Tar{Compression: "gzip"} },
	func(image string) Target { return &WSL{Name: image, Systemd: true} },
	func(string) Target { return &Incus{Type: "container"} },
	newFormat("raw"), newFormat("qcow2"), newFormat("vmdk"), newFormat("vhd"), newFormat("gce"), newFormat("ami"),
	func(string) Target { return &OVA{CPUs: 1, Memory: 1024} },
	func(string) Target {
		return &Vagrant{Provider: "virtualbox", Additions: "none", CPUs: 1, Memory: 1024}
	},
	newOpenStack,
	func(string) Target { return NewRAMDisk() },
	func(string) Target { return NewISO() },
}

// Kinds lists the names of the kinds.
func Kinds() []string {
	var names []string
	for _, make := range kinds {
		names = append(names, make("").Kind())
	}
	return names
}

// New returns a target of a kind for an image, a pointer to its struct with the
// defaults; false if there is no such kind.
func New(kind, image string) (Target, bool) {
	for _, make := range kinds {
		if t := make(image); t.Kind() == kind {
			return t, true
		}
	}
	return nil, false
}

// Name is that of a target among those of its image: its kind, and what variant of it.
func Name(t Target) string {
	if t.Variant() == "" {
		return t.Kind()
	}
	return t.Kind() + "-" + t.Variant()
}
