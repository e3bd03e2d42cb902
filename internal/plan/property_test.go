package plan

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/op"
	"herdbook/internal/pin"
	"herdbook/internal/store"
	"herdbook/internal/target"
)

// tape makes choices and can make them again, so that one definition is made twice,
// the second to be meddled with.
type tape struct {
	t      *rapid.T
	made   []int
	played int
}

func (c *tape) below(n int) int {
	if c.played == len(c.made) {
		c.made = append(c.made, rapid.IntRange(0, n-1).Draw(c.t, "choice"))
	}
	c.played++
	return c.made[c.played-1]
}

// herds makes a definition: a few trees of images with some steps.
func (c *tape) herds() *definition.Definition {
	d := &definition.Definition{}
	for n := range 2 + c.below(5) {
		image := definition.Image{Name: fmt.Sprint("image", n)}
		if n == 0 || c.below(3) == 0 {
			image.Bootstrap = herd().Images[0].Bootstrap
			image.Bootstrap.Suite = []string{suite, "trixie"}[c.below(2)]
			image.Disk.Size = int64(1+c.below(8)) << 30
		} else {
			image.From = d.Images[c.below(n)].Name
		}
		for range c.below(5) {
			image.Steps = append(image.Steps, c.step())
		}
		if c.below(2) == 0 {
			image.Steps = append(image.Steps, definition.Step{Kind: KindSysprep, Operation: &op.Sysprep{}})
		}
		d.Images = append(d.Images, image)
	}
	return d
}

func (c *tape) step() definition.Step {
	all := operations()
	s := definition.Step{Operation: all[c.below(len(all)-1)], Timeout: time.Duration(c.below(9))} // sysprep is no step
	if c.below(2) == 0 {
		s.Network = network()
	}
	s.Kind, s.Name = s.Operation.Kind(), fmt.Sprint("step", c.below(1000))
	if op.Booted(s.Operation) {
		s.Firmware, s.Reboot = "bios", true // each step is one of the plan
	}
	if _, reads := op.HostSource(s.Operation); reads {
		s.Files = files()
	}
	for range c.below(3) {
		// A name that stands twice could be dropped later, and nothing have changed.
		list := slices.DeleteFunc(variations(reflect.ValueOf(s.Operation), ""), func(v variation) bool { return v.same })
		list[c.below(len(list))].apply()
	}
	return s
}

// pinned pins every suite that a definition uses.
func pinned(d *definition.Definition) pin.Lock {
	var l pin.Lock
	for _, image := range d.Images {
		if b := image.Bootstrap; b != nil {
			l = l.With(release(b.Mirror, b.Suite))
		}
	}
	return l
}

// change is what was done to a definition, and from which step on each image
// must have other keys; an image that is not listed keeps all of its keys.
type change struct {
	what  string
	lock  pin.Lock
	first map[string]int
}

// mark notes that an image changes from a step on, and so all that are made from it.
func (c *change) mark(d *definition.Definition, name string, step int) {
	if old, ok := c.first[name]; !ok || step < old {
		c.first[name] = step
	}
	for _, image := range d.Images {
		if image.From == name {
			c.mark(d, image.Name, 0)
		}
	}
}

// leftOut are the fields of a definition's steps and bootstraps that no key knows.
var leftOut = map[string]bool{
	"definition.Step.Name": true, "definition.Step.Timeout": true, "definition.Step.Position": true,
	"definition.Input.Path": true, "op.Copy.Source": true, "op.Copy.Payload": true, "op.TarIn.Source": true, "op.TarIn.Payload": true,
	"op.Puppet.Timeout": true, "op.Puppet.Retries": true, "op.Puppet.Challenge": true, "op.Puppet.Sign": true, "op.Puppet.Clean": true,
	"op.Ansible.Vault": true, "op.CloudInit.AllowWarnings": true,
	"op.Puppet.Modules": true, "op.Puppet.Payload": true,
	"definition.Bootstrap.Keyring": true, "definition.Bootstrap.Refresh": true,
	"definition.Network.HostPorts": true, "definition.Network.DNS": true, "definition.Network.Proxy": true,
	"definition.Network.Forward": true, "definition.Forward.Host": true, "definition.Forward.Guest": true,
}

// vary changes one field of v, which makes the steps of an image from one on.
func (c *change) vary(choose *tape, v any, mark func()) {
	list := slices.DeleteFunc(variations(reflect.ValueOf(v), ""), func(v variation) bool {
		// The kind is always that of the operation, and the other makes one step of two.
		return v.field == "definition.Step.Kind" || v.field == "definition.Step.Reboot"
	})
	one := list[choose.below(len(list))]
	one.apply()
	c.what = fmt.Sprintf("%s %s", one.field, one.how)
	if !one.same && !leftOut[one.field] {
		mark()
	}
}

// meddle changes one thing of a definition.
func meddle(choose *tape, d *definition.Definition) change {
	image := &d.Images[choose.below(len(d.Images))]
	c := change{first: map[string]int{}}
	invented := 0 // the steps that the plan puts before those of the definition
	if image.Bootstrap != nil {
		invented = 2
	}
	switch kind := choose.below(10); {
	case kind < 5 && len(image.Steps) > 0:
		n := choose.below(len(image.Steps))
		c.vary(choose, &image.Steps[n], func() { c.mark(d, image.Name, n+invented) })
	case kind < 7 && image.Bootstrap != nil:
		c.vary(choose, image.Bootstrap, func() { c.mark(d, image.Name, 0) })
	case kind == 7 && image.Bootstrap != nil:
		c.what = "the disk is larger"
		image.Disk.Size++
		c.mark(d, image.Name, 0)
	case kind == 8 && image.Bootstrap != nil:
		c.what = "the mirror's state is another"
		p := release(image.Bootstrap.Mirror, image.Bootstrap.Suite)
		p.Checksum = of("other").Checksum()
		c.lock = pinned(d).With(p)
		for _, other := range d.Images {
			if other.Bootstrap != nil && other.Bootstrap.Suite == image.Bootstrap.Suite {
				c.mark(d, other.Name, 0)
			}
		}
		return c
	default:
		c.what = "a step more"
		n := choose.below(len(image.Steps) + 1)
		image.Steps = slices.Insert(image.Steps, n, definition.Step{Kind: "run", Operation: &op.Run{Script: "inserted"}})
		c.mark(d, image.Name, n+invented)
	}
	c.lock = pinned(d)
	return c
}

// resolved gives the keys of every image when all is built.
func resolved(t *rapid.T, d *definition.Definition, l pin.Lock) map[string][]store.Key {
	all := map[string][]store.Key{}
	p := planned(t, d, l)
	states := p.Resolve(func(key store.Key) (digest.Digest, bool) { return layer(key), true })
	for _, image := range p.Images {
		all[image.Name] = nil
		for _, s := range states[image.Name] {
			all[image.Name] = append(all[image.Name], s.Key)
		}
	}
	return all
}

// What changes an input of a step changes the key of that step and of all behind
// it, in the image and in those made from it, and no other key.
func TestInAnyHerdAChangeIsSeenBehindItOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		choose := &tape{t: t}
		before := choose.herds()
		choose.played = 0
		after := choose.herds()
		c := meddle(choose, after)
		old, now := resolved(t, before, pinned(before)), resolved(t, after, c.lock)
		for name, keys := range now {
			first, touched := c.first[name]
			if !touched {
				first = len(old[name])
			}
			if len(keys) < first || !slices.Equal(keys[:first], old[name][:first]) {
				t.Fatalf("%s: image %s has other keys before step %d", c.what, name, first)
			}
			for n, key := range keys[first:] {
				if slices.Contains(old[name], key) {
					t.Fatalf("%s: image %s, step %d has an old key", c.what, name, first+n)
				}
			}
		}
	})
}

// Names, limits and what is done with a finished image build nothing anew, nor does
// the order of images beside each other.
func TestInAnyHerdNamesAndDeliveriesChangeNoKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		choose := &tape{t: t}
		before := choose.herds()
		choose.played = 0
		after := choose.herds()
		lock := pin.Lock{}
		for i := range after.Images {
			image := &after.Images[i]
			image.Name, image.Position = "new-"+image.Name, "elsewhere.hcl:9"
			if image.From != "" {
				image.From = "new-" + image.From
			}
			image.Tests = []definition.Test{{Kind: "boots", Firmware: "uefi"}}
			image.Publish = []definition.Publish{{Repository: "r", Name: "n"}}
			image.Targets = []definition.Target{{Target: &target.Docker{Tags: []string{"a:b"}}, Image: image.Name}}
			if b := image.Bootstrap; b != nil {
				p := release(b.Mirror, b.Suite)
				p.URL, p.Dated = "http://elsewhere", "tomorrow"
				lock = lock.With(p)
			}
			for n := range image.Steps {
				s := &image.Steps[n]
				s.Name, s.Position, s.Timeout = "new", "elsewhere.hcl:10", time.Hour
				for _, v := range variations(reflect.ValueOf(s.Operation), "") {
					if v.same {
						v.apply()
					}
				}
			}
		}
		after.Repositories = []definition.Repository{{Name: "r", Path: "/srv"}}
		slices.SortStableFunc(after.Images, func(a, b definition.Image) int { return depth(after, a) - depth(after, b) })
		old, now := resolved(t, before, pinned(before)), resolved(t, after, lock)
		for name, keys := range old {
			if !slices.Equal(keys, now["new-"+name]) {
				t.Fatalf("image %s has other keys", name)
			}
		}
	})
}

func depth(d *definition.Definition, image definition.Image) int {
	for _, parent := range d.Images {
		if parent.Name == image.From {
			return 1 + depth(d, parent)
		}
	}
	return 0
}
