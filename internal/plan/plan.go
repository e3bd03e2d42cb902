// Package plan turns images and pins into ordered steps with keys. A key names
// everything that can change what a step makes, and nothing else; the package
// can print what went into a key, so that a rebuild is never a riddle. Carrying
// the steps out is left to package build.
package plan

import (
	"fmt"
	"slices"

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
	// Place is the target that the image is made for: its steps are what the place needs
	// on the image that it is from, and it is delivered nowhere else. Nil for an image of
	// the definition.
	Place *definition.Target
}

// Step makes one layer.
type Step struct {
	definition.Step
	Image     string                // the image that it belongs to
	Bootstrap *definition.Bootstrap // set for the first step of a bootstrapped image
	Install   *definition.Install   // set for the step that runs an installer; kernel and initrd are pinned
	Import    *definition.Import    // set for the step that takes a disk image over
	Template  *Template             // set for the step that takes an image of a repository over
	Size      int64                 // bytes of the disk; set with Bootstrap and Install
	Grow      int64                 // bytes that the disk has afterwards; set for the step that makes it larger
	Trim      bool                  // free blocks are given back at the end
	Shared    []definition.Step     // the boot steps behind it that are done in the same boot
	Pins      []pin.Pin             // the state of the package repositories that it can see
}

// Template is an image of a repository, as it is pinned.
type Template struct {
	definition.Template
	Pin pin.Pin
}

// Kinds of the steps that no definition spells out.
const (
	KindBootstrap  = "bootstrap"
	KindInstall    = "install"
	KindImport     = "import"
	KindTemplate   = "template"
	KindGrow       = "grow"
	KindBootloader = "bootloader"
	KindSysprep    = "sysprep"
	KindBoot       = "boot"
)

// Label names the step to people, as its block in the definition is named.
func (s Step) Label() string {
	label := s.Kind
	for i, part := range s.Parts() {
		if i > 0 {
			label += ","
		}
		if part.Name != "" {
			label += fmt.Sprintf(" %q", part.Name)
		}
	}
	return label
}

// Label names a step of the definition to people.
func Label(s definition.Step) string { return Step{Step: s}.Label() }

// Parts are the steps of the definition that the step does: one, or several boot steps.
func (s Step) Parts() []definition.Step {
	return append([]definition.Step{s.Step}, s.Shared...)
}

// join adds a step of the definition to those before it: to the last one, if they share
// a boot.
func join(steps []Step, next Step) []Step {
	if n := len(steps) - 1; n >= 0 && sharesBoot(steps[n].Step, next.Step) {
		steps[n].Shared = append(steps[n].Shared, next.Step)
		return steps
	}
	return append(steps, next)
}

// sharesBoot tells whether a boot step is done in the boot of another before it: it
// does unless it wants another machine, or a boot of its own.
func sharesBoot(before, next definition.Step) bool {
	return before.Kind == KindBoot && next.Kind == KindBoot && !next.Reboot && before.Firmware == next.Firmware && before.Network.Equal(next.Network)
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
			if s.Network != nil {
				step.Pins = pins
			}
			planned.Steps = join(planned.Steps, step)
		}
		planned.Targets = nil
		var places []Image
		for _, t := range image.Targets {
			if t.Place() == "" {
				planned.Targets = append(planned.Targets, t)
			} else {
				places = append(places, place(image, t, pins))
			}
		}
		p.Images = append(append(p.Images, planned), places...)
	}
	return p, nil
}

// place is the image that a target needs on top of another: one more, so that it is
// looked up, built beside others and explained like any.
func place(image definition.Image, t definition.Target, pins []pin.Pin) Image {
	made := Image{
		Image: definition.Image{Name: t.Place(), From: image.Name, Targets: []definition.Target{t}, Position: t.Position},
		Place: &t,
	}
	for i, s := range t.Steps {
		step := Step{Step: s, Image: made.Name, Trim: i == len(t.Steps)-1}
		if s.Network != nil {
			step.Pins = pins
		}
		made.Steps = append(made.Steps, step)
	}
	return made
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
	case image.Template != nil:
		steps, err := instance(image, lock)
		return steps, nil, err
	}
	return nil, nil, nil
}

// instance is how an image of a repository begins: as it is there, then with a
// larger disk, if that is asked for. They are two layers: images that differ in
// their size have the first in common.
func instance(image definition.Image, lock pin.Lock) ([]Step, error) {
	p, ok := lock.Get(image.Template.PinName())
	if !ok {
		return nil, notPinned(image.Template.PinName())
	}
	made := []Step{{
		Step:     definition.Step{Kind: KindTemplate, Name: image.Template.Selector().String(), Position: image.Position},
		Image:    image.Name,
		Template: &Template{*image.Template, p},
	}}
	size := image.Disk.Size
	switch {
	case size == 0 || size == p.Size:
		return made, nil
	case size < p.Size:
		return nil, fmt.Errorf("%s has a disk of %d bytes, and the definition gives it %d: herdbook makes no disk smaller", image.Template.Selector(), p.Size, size)
	}
	return append(made, Step{Step: definition.Step{Kind: KindGrow, Position: image.Position}, Image: image.Name, Grow: size}), nil
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
	sum := p.Checksum
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
// images if no name is given. What the targets of those need comes with them, unless the
// name is that of what one target needs.
func (p *Plan) With(names ...string) (*Plan, error) {
	if len(names) == 0 {
		return p, nil
	}
	needed, places := map[string]bool{}, map[string]bool{} // places: those of the images
	for _, name := range names {
		whole := true
		for name != "" {
			image, ok := p.Image(name)
			if !ok {
				return nil, fmt.Errorf("there is no image %q in the definition", name)
			}
			whole = whole && image.Place == nil
			needed[name], places[name] = true, places[name] || whole
			name = image.From
		}
	}
	return p.keep(func(image Image) bool { return needed[image.Name] || image.Place != nil && places[image.From] }), nil
}

// Delivering returns the plan without the targets that are not wanted, and what they
// need.
func (p *Plan) Delivering(wanted func(definition.Target) bool) *Plan {
	some := p.keep(func(image Image) bool { return image.Place == nil || wanted(*image.Place) })
	for i := range some.Images {
		targets := slices.Clone(some.Images[i].Targets)
		some.Images[i].Targets = slices.DeleteFunc(targets, func(t definition.Target) bool { return !wanted(t) })
	}
	return some
}

func (p *Plan) keep(wanted func(Image) bool) *Plan {
	some := &Plan{}
	for _, image := range p.Images {
		if wanted(image) {
			some.Images = append(some.Images, image)
		}
	}
	return some
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
