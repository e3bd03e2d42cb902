package delivery

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"herdbook/internal/artefact"
	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/store"
	"herdbook/internal/target"
	"herdbook/internal/target/docker"
	"herdbook/internal/target/format"
	"herdbook/internal/target/iso"
	"herdbook/internal/target/openstack"
	"herdbook/internal/target/ova"
	"herdbook/internal/target/ramdisk"
	"herdbook/internal/target/root"
	"herdbook/internal/target/vagrant"
)

// exporter is what writes the artefact of a target.
func (d *Deliverer) exporter(t target.Target) artefact.Exporter {
	switch t := t.(type) {
	case *target.Docker:
		return &docker.Exporter{Docker: *t, LookupEnv: d.LookupEnv}
	case *target.Tar:
		return &root.Tar{Tar: *t}
	case *target.WSL:
		return &root.WSL{WSL: *t}
	case *target.Incus:
		return &root.Incus{Incus: *t}
	case *target.RAMDisk:
		return &ramdisk.Exporter{RAMDisk: *t, Accelerator: d.Accelerator}
	case *target.ISO:
		return &iso.Exporter{ISO: *t, Accelerator: d.Accelerator}
	case *target.Format:
		return &format.Exporter{Format: *t}
	case *target.OVA:
		return &ova.Exporter{OVA: *t}
	case *target.Vagrant:
		return &vagrant.Exporter{Vagrant: *t}
	case *target.OpenStack:
		return &openstack.Exporter{OpenStack: *t, LookupEnv: d.LookupEnv, Accelerator: d.Accelerator}
	}
	panic(fmt.Sprintf("no exporter for the target %q", t.Kind()))
}

// Fits tells why the system on a layer cannot have a target, nil if it can. What the
// target needs on it is not there yet.
func (d *Deliverer) Fits(t definition.Target, layer digest.Digest) (err error) {
	image, system, err := d.open(layer)
	if err != nil {
		return err
	}
	return errors.Join(d.exporter(t.Target).Fits(system), image.Close())
}

// export makes the artefact of a target and brings it further, if it is to go further.
// Another herdbook that does the same waits, and finds it there.
func (d *Deliverer) export(ctx context.Context, t definition.Target, top digest.Digest, sink event.Sink) (fresh bool, made string, err error) {
	e := d.exporter(t.Target)
	order := artefact.Order{Image: t.Image, Layer: top, Target: t.Target, Exporter: e, Dir: t.Output}
	unlock, err := d.Store.LockKey(ctx, store.Key(digest.Of([]byte("export "+order.ManifestPath()))))
	if err != nil {
		return false, "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	m, there := order.Find()
	if !there {
		if m, err = d.make(ctx, order, sink); err != nil {
			return false, "", err
		}
	}
	made = filepath.Join(t.Output, m.Main)
	if len(m.Names) > 0 {
		made = strings.Join(m.Names, ", ") + " in " + made
	}
	if s, ok := e.(artefact.Sender); ok {
		where, sent, err := s.Send(ctx, t.Output, m, sink)
		if err != nil {
			return false, "", err
		}
		if there = there && !sent; where != "" {
			made += ", " + where
		}
	}
	return !there, made, nil
}

func (d *Deliverer) make(ctx context.Context, order artefact.Order, sink event.Sink) (m artefact.Manifest, err error) {
	chain, err := d.Store.Chain(order.Layer)
	if err != nil {
		return m, err
	}
	opened, system, err := d.open(order.Layer)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	return order.Make(ctx, &artefact.Image{
		Name: order.Image, Layer: order.Layer, Disk: opened, System: system, Created: chain[len(chain)-1].Created,
		Labels: labels(order.Image, chain), Chain: chain, Store: d.Store,
	}, sink)
}

// labels are an image's pedigree in the form of OCI annotations.
func labels(name string, chain []store.Layer) map[string]string {
	var steps []string
	for _, l := range chain {
		steps = append(steps, fmt.Sprintf("%s: %s = %s", l.Image, l.Step, l.Digest))
	}
	top := chain[len(chain)-1]
	return map[string]string{
		"org.opencontainers.image.title":   name,
		"org.opencontainers.image.created": top.Created.Format(time.RFC3339),
		"org.herdbook.layer":               string(top.Digest),
		"org.herdbook.pedigree":            strings.Join(steps, "\n"),
	}
}
