// Package plan turns images and pins into ordered steps with keys. A key names
// everything that can change what a step makes, and nothing else; the package
// can print what went into a key, so that a rebuild is never a riddle. Carrying
// the steps out is left to package build.
package plan

import (
	"fmt"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/op"
	"herdbook/internal/pin"
	"herdbook/internal/store"
)

// Plan is what must be done for every image, parents before children.
type Plan struct {
	Images []Image
}

// Image is one image's steps, in order. Each makes a layer upon the one before.
type Image struct {
	definition.Image
	Steps []Step
}

// Step makes one layer.
type Step struct {
	definition.Step
	Image     string                // the image that it belongs to
	Bootstrap *definition.Bootstrap // set for the first step of a bootstrapped image
	Install   *definition.Install   // set for the step that runs an installer; kernel and initrd are pinned
	Import    *definition.Import    // set for the step that takes a disk image over
	Size      int64                 // bytes of the disk; set with Bootstrap and Install
	Trim      bool                  // free blocks are given back at the end
	Pins      []pin.Pin             // the state of the package repositories that it can see
}

// Kinds of the steps that no definition spells out.
const (
	KindBootstrap  = "bootstrap"
	KindInstall    = "install"
	KindImport     = "import"
	KindBootloader = "bootloader"
	KindSysprep    = "sysprep"
)

// Label names the step to people, as its block in the definition is named.
func (s Step) Label() string {
	if s.Name == "" {
		return s.Kind
	}
	return fmt.Sprintf("%s %q", s.Kind, s.Name)
}

// New plans every image of a definition. Each suite that it uses must be
// pinned in lock.
func New(d *definition.Definition, lock pin.Lock) (*Plan, error) {
	p := &Plan{}
	sees := map[string][]pin.Pin{} // image → the repositories its guest knows
	for _, image := range d.Images {
		steps, pins, err := first(image, lock)
		if err != nil {
			return nil, fmt.Errorf("plan image %q: %w", image.Name, err)
		}
		if image.From != "" {
			pins = sees[image.From]
		}
		sees[image.Name] = pins
		planned := Image{Image: image, Steps: steps}
		for _, s := range image.Steps {
			step := Step{Step: s, Image: image.Name, Trim: s.Kind == KindSysprep}
			if s.Network {
				step.Pins = pins
			}
			planned.Steps = append(planned.Steps, step)
		}
		p.Images = append(p.Images, planned)
	}
	return p, nil
}

// first are the steps by which an image starts by itself, and the package
// repositories that its guest knows then.
func first(image definition.Image, lock pin.Lock) ([]Step, []pin.Pin, error) {
	step := Step{Step: definition.Step{Position: image.Position}, Image: image.Name, Size: image.Disk.Size}
	switch {
	case image.Bootstrap != nil:
		name := pin.AptName(image.Bootstrap.Mirror, image.Bootstrap.Suite)
		release, ok := lock.Get(name)
		if !ok {
			return nil, nil, notPinned(name)
		}
		return start(image, release), []pin.Pin{release}, nil
	case image.Install != nil:
		install, pins, err := installation(*image.Install, lock)
		step.Kind, step.Name, step.Install, step.Pins = KindInstall, install.Kind, &install, pins
		step.Timeout, step.Position = install.Timeout, install.Position
		return []Step{step}, pins, err
	case image.Import != nil:
		step.Kind, step.Import = KindImport, image.Import
		return []Step{step}, nil, nil
	}
	return nil, nil, nil
}

// installation is an installation whose kernel and initrd are those of the lock,
// and what the lock says of the archive that they came from.
func installation(i definition.Install, lock pin.Lock) (definition.Install, []pin.Pin, error) {
	if i.Location.IsDisc() {
		return i, nil, nil // its checksum is that of all that is on it
	}
	for _, part := range []struct {
		name   pin.Part
		medium *definition.Medium
	}{{pin.Kernel, &i.Kernel}, {pin.Initrd, &i.Initrd}} {
		made, err := locked(*part.medium, pin.InstallerName(i.Location.URL, part.name), lock)
		if err != nil {
			return i, nil, err
		}
		*part.medium = made
	}
	var pins []pin.Pin
	if archive, ok := lock.Get(pin.InstallerName(i.Location.URL, pin.Archive)); ok {
		pins = append(pins, archive)
	}
	return i, pins, nil
}

// locked is a kernel or an initrd with its address and its checksum: given outright,
// or those of the lock, where it is called name if it lies in a tree.
func locked(m definition.Medium, name string, lock pin.Lock) (definition.Medium, error) {
	if m.URL != "" && m.Checksum != "" {
		return m, nil
	}
	if m.URL != "" {
		name = pin.FileName(m.URL)
	}
	p, ok := lock.Get(name)
	sum := p.Digest.Checksum()
	switch {
	case !ok:
		return m, notPinned(name)
	case m.Checksum.IsSHA256() && m.Checksum != sum:
		return m, fmt.Errorf("%s is pinned as %s, and the definition gives %s; run herdbook build --refresh", name, sum, m.Checksum)
	}
	return definition.Medium{URL: p.URL, Checksum: sum}, nil
}

func notPinned(name string) error {
	return fmt.Errorf("%s is not pinned; run herdbook build --refresh", name)
}

// start is how a bootstrapped image begins: packages, then the boot loader. They
// are two layers, since a failure of the second should not cost the first.
func start(image definition.Image, release pin.Pin) []Step {
	return []Step{
		{
			Step:      definition.Step{Kind: KindBootstrap, Name: "mmdebstrap", Position: image.Position},
			Image:     image.Name,
			Bootstrap: image.Bootstrap,
			Size:      image.Disk.Size,
			Pins:      []pin.Pin{release},
		},
		{
			Step:  definition.Step{Kind: KindBootloader, Operation: &op.Bootloader{}, Position: image.Position},
			Image: image.Name,
		},
	}
}

// Image returns the planned image of a name.
func (p *Plan) Image(name string) (Image, bool) {
	for _, image := range p.Images {
		if image.Name == name {
			return image, true
		}
	}
	return Image{}, false
}

// With returns the plan of the named images and all their ancestors; of all
// images if no name is given.
func (p *Plan) With(names ...string) (*Plan, error) {
	if len(names) == 0 {
		return p, nil
	}
	needed := map[string]bool{}
	for _, name := range names {
		for name != "" {
			image, ok := p.Image(name)
			if !ok {
				return nil, fmt.Errorf("there is no image %q in the definition", name)
			}
			needed[name] = true
			name = image.From
		}
	}
	some := &Plan{}
	for _, image := range p.Images {
		if needed[image.Name] {
			some.Images = append(some.Images, image)
		}
	}
	return some, nil
}

// State is what is known of a step before anything is built.
type State struct {
	Step
	Known  bool          // whether Parent and Key are: not if a step before has no layer
	Parent digest.Digest // the layer that it is made on; "" for a first one
	Key    store.Key     // what the step's layer is looked up by
	Layer  digest.Digest // what was found; "" when it must be built
}

// Resolve looks every step up with find and returns the states by image, in
// the order of the steps.
func (p *Plan) Resolve(find func(store.Key) (digest.Digest, bool)) map[string][]State {
	states := map[string][]State{}
	last := map[string]digest.Digest{} // image → its top layer, if all of it is there
	for _, image := range p.Images {
		parent, known := last[image.From], true
		if image.From != "" && parent == "" {
			known = false
		}
		for _, step := range image.Steps {
			state := State{Step: step, Known: known}
			if known {
				state.Parent, state.Key = parent, step.Key(parent)
				parent, known = find(state.Key)
				state.Layer = parent
			}
			states[image.Name] = append(states[image.Name], state)
		}
		if known {
			last[image.Name] = parent
		}
	}
	return states
}
