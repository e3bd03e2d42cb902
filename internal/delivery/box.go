package delivery

import (
	"context"
	"fmt"
	"path/filepath"

	"herdbook/internal/artefact"
	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/pack"
	"herdbook/internal/target"
)

// boxFormat is the format of a repository whose revisions have boxes for Vagrant.
const boxFormat = "vagrant"

// TakesBox tells whether a publish takes what a target makes: a box, of an image that
// goes into a repository of boxes.
func TakesBox(def *definition.Definition, t definition.Target) bool {
	_, isBox := t.Target.(*target.Vagrant)
	return isBox && def.TakesBoxes(imageOf(def, t.Image))
}

// box is one that a target has made.
type box struct {
	kind   string // in a revision
	path   string
	digest digest.Digest
}

// boxes are those of the image's targets for Vagrant, made of their layers.
func boxes(image definition.Image, layers map[string]digest.Digest) ([]box, error) {
	var list []box
	for _, t := range image.Targets {
		v, ok := t.Target.(*target.Vagrant)
		if !ok {
			continue
		}
		order := artefact.Order{Image: t.Image, Layer: layers[t.Place()], Target: t.Target, Dir: t.Output}
		m, there := order.Find()
		if !there {
			return nil, fmt.Errorf("its box for %s is not there, which the target %q makes", v.Provider, t.Name())
		}
		for _, f := range m.Files {
			if f.Name == m.Main {
				list = append(list, box{"box." + v.Provider, filepath.Join(t.Output, f.Name), f.Digest})
			}
		}
	}
	return list, nil
}

// boxes makes the boxes of the image's targets files of the revision; of an image without
// such a target, one for libvirt with its disk as it is.
func (m *maker) boxes(ctx context.Context, made []box) error {
	if len(made) == 0 {
		if err := m.flatten(ctx, false); err != nil {
			return err
		}
		f, err := pack.Box(ctx, m.qcow2.Path, filepath.Join(m.dir, "disk.box"), m.sink)
		m.add(plainBox, ".box", f)
		return err
	}
	for _, b := range made {
		m.sink.Emit(event.Event{Kind: event.Phase, Text: "read " + b.path})
		path := filepath.Join(m.dir, b.kind)
		if err := artefact.Place(b.path, path); err != nil { // what comes into its place meanwhile is another
			return err
		}
		f, err := pack.Look(ctx, path, m.sink)
		if err != nil {
			return err
		}
		if f.SHA256 != string(b.digest) {
			return fmt.Errorf("%s is not what was made, by its manifest; remove it and run the command again", b.path)
		}
		m.add(b.kind, ".box", f)
		m.files[len(m.files)-1].Exact = true
	}
	return nil
}
