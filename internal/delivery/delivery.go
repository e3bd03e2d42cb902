// Package delivery brings finished images to where they are used: into signed
// repositories and to their targets. What is there already is left alone.
package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/repo"
	"herdbook/internal/repo/publish"
	"herdbook/internal/signed"
	"herdbook/internal/store"
	"herdbook/internal/target/docker"
)

// Deliverer delivers layers of a store.
type Deliverer struct {
	Store *store.Store
	Sink  event.Sink
	Now   func() time.Time
}

// Error is the failure of one delivery.
type Error struct {
	Image, Step string
	Err         error
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("image %q, %s: %v", e.Image, e.Step, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Publish puts the top layer of an image into every repository that it names.
func (d *Deliverer) Publish(ctx context.Context, def *definition.Definition, image definition.Image, top digest.Digest) error {
	var errs []error
	for _, p := range image.Publish {
		errs = append(errs, d.step(image.Name, publishLabel(p), func(sink event.Sink) (bool, string, error) {
			return d.publish(ctx, repository(def, p.Repository), p, top, sink)
		}))
	}
	return errors.Join(errs...)
}

// Export makes the artefacts of an image's targets of a kind; of all if kind is "".
func (d *Deliverer) Export(ctx context.Context, image definition.Image, kind string, top digest.Digest) error {
	var errs []error
	for _, t := range image.Targets {
		if kind != "" && t.Kind != kind {
			continue
		}
		errs = append(errs, d.step(image.Name, targetLabel(t), func(sink event.Sink) (bool, string, error) {
			return d.docker(ctx, image.Name, *t.Docker, top, sink)
		}))
	}
	return errors.Join(errs...)
}

func publishLabel(p definition.Publish) string { return fmt.Sprintf("publish %q", p.Repository) }

func targetLabel(t definition.Target) string { return fmt.Sprintf("target %q", t.Kind) }

// Announce reports every delivery of an image as queued.
func Announce(image definition.Image, sink event.Sink) { each(image, event.StepQueued, sink) }

// Skip reports every delivery of an image as not done.
func Skip(image definition.Image, sink event.Sink) { each(image, event.StepSkipped, sink) }

func each(image definition.Image, kind event.Kind, sink event.Sink) {
	for _, p := range image.Publish {
		sink.Emit(event.Event{Kind: kind, Image: image.Name, Step: publishLabel(p)})
	}
	for _, t := range image.Targets {
		sink.Emit(event.Event{Kind: kind, Image: image.Name, Step: targetLabel(t)})
	}
}

// step reports one delivery from its start to its end. The work tells whether
// it made something new, and what is there now. It has begun with its first
// event: to find that all is there already is no work.
func (d *Deliverer) step(image, label string, work func(event.Sink) (fresh bool, made string, err error)) error {
	sink := d.Sink.For(image, label)
	start := d.Now()
	begin := sync.OnceFunc(func() { sink.Emit(event.Event{Kind: event.StepStarted}) })
	fresh, made, err := work(func(e event.Event) {
		begin()
		sink.Emit(e)
	})
	switch {
	case err != nil:
		begin()
		sink.Emit(event.Event{Kind: event.StepFailed, Text: err.Error()})
		return &Error{image, label, err}
	case fresh:
		sink.Emit(event.Event{Kind: event.StepDone, Elapsed: d.Now().Sub(start)})
	default:
		sink.Emit(event.Event{Kind: event.StepCached})
	}
	sink.Emit(event.Event{Kind: event.ArtefactMade, Text: made})
	return nil
}

func repository(def *definition.Definition, name string) definition.Repository {
	for _, r := range def.Repositories {
		if r.Name == name {
			return r
		}
	}
	return definition.Repository{Name: name}
}

func (d *Deliverer) publish(ctx context.Context, r definition.Repository, p definition.Publish, top digest.Digest, sink event.Sink) (bool, string, error) {
	to := publish.Repository{Dir: r.Path, Now: d.Now()}
	if !r.Unsigned {
		signer, err := signed.NewSigner([]byte(r.SigningKey.Value), d.Now())
		if err != nil {
			return false, "", err
		}
		to.Signer = signer
	}
	entry, err := d.entry(p.Name, top)
	if err != nil {
		return false, "", err
	}
	entry, fresh, err := to.Publish(ctx, publish.Image{Disk: d.Store.DiskPath(top), Entry: entry}, sink)
	return fresh, fmt.Sprintf("%s/%s (revision %d)", r.Path, entry.File, entry.Revision), err
}

// architectures are virt-builder's names for Debian's.
var architectures = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}

// entry describes a layer for an index.
func (d *Deliverer) entry(name string, top digest.Digest) (repo.Entry, error) {
	image, system, err := d.open(top)
	if err != nil {
		return repo.Entry{}, err
	}
	defer image.Close()
	notes, err := d.notes(top)
	if err != nil {
		return repo.Entry{}, err
	}
	e := repo.Entry{
		ID: name, Name: system.Release.PrettyName, OSInfo: system.Release.ID + system.Release.VersionID,
		Arch: architectures[system.Architecture], Size: image.Size(), Notes: notes, Layer: string(top),
	}
	if n := system.RootPartition(); n > 0 {
		e.Expand = fmt.Sprintf("/dev/sda%d", n)
	}
	return e, nil
}

func (d *Deliverer) open(top digest.Digest) (*disk.Image, *inspection.System, error) {
	image, err := disk.Open(d.Store.DiskPath(top), disk.QCOW2)
	if err != nil {
		return nil, nil, err
	}
	system, err := inspection.Disk(image, image.Size())
	if err != nil {
		return nil, nil, errors.Join(err, image.Close())
	}
	return image, system, nil
}

// notes tell an image's pedigree: the steps that made it, oldest first.
func (d *Deliverer) notes(top digest.Digest) (string, error) {
	chain, err := d.Store.Chain(top)
	if err != nil {
		return "", err
	}
	lines := []string{"Made by herdbook:"}
	for _, l := range chain {
		lines = append(lines, fmt.Sprintf("%s: %s (layer %s)", l.Image, l.Step, l.Digest.Short()))
	}
	return strings.Join(lines, "\n"), nil
}

func (d *Deliverer) docker(ctx context.Context, name string, t definition.Docker, top digest.Digest, sink event.Sink) (bool, string, error) {
	chain, err := d.Store.Chain(top)
	if err != nil {
		return false, "", err
	}
	source, err := json.Marshal([]any{"docker 1", top, t.Tags, t.Command})
	if err != nil {
		return false, "", err
	}
	e := docker.Export{
		Dir: t.Output, Name: name, Tags: t.Tags, Command: t.Command, Labels: labels(name, chain),
		Created: chain[len(chain)-1].Created, Source: string(digest.Of(source)),
	}
	made := strings.Join(t.Tags, ", ") + " in " + e.ArchivePath()
	if e.UpToDate() {
		return false, made, nil
	}
	image, system, err := d.open(top)
	if err != nil {
		return false, "", err
	}
	defer image.Close()
	e.System = system
	_, err = e.Write(ctx, sink)
	return true, made, err
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
