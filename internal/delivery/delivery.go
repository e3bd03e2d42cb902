// Package delivery brings finished images to where they are used: into signed
// repositories and to their targets. What is there already is left alone.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/machine"
	"herdbook/internal/plan"
	"herdbook/internal/store"
)

// Deliverer delivers layers of a store.
type Deliverer struct {
	Store *store.Store
	Sink  event.Sink
	Now   func() time.Time
	// LookupEnv is the user's environment, which says how clouds and registries are entered; nil: none.
	LookupEnv func(string) (string, bool)
	// Accelerator is asked for a machine to measure an artefact in. Nil: it is not measured.
	Accelerator func(context.Context) (machine.Accelerator, error)
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

// Publish puts the top layer of an image of a definition into every repository that it
// names. The boxes that go with it must be there: Export makes them.
func (d *Deliverer) Publish(ctx context.Context, def *definition.Definition, name string, layers map[string]digest.Digest) error {
	image := imageOf(def, name)
	var errs []error
	for _, p := range image.Publish {
		errs = append(errs, d.step(name, publishLabel(p), func(sink event.Sink) (bool, string, error) {
			r := repository(def, p.Repository)
			n, err := newEdition(r, p, image, layers)
			if err != nil {
				return false, "", err
			}
			return d.publish(ctx, r, n, sink)
		}))
	}
	return errors.Join(errs...)
}

// Export makes the artefacts of the targets of those images whose layers are there, side by
// side.
func (d *Deliverer) Export(ctx context.Context, images []plan.Image, layers map[string]digest.Digest) error {
	var work []func() error
	for _, image := range images {
		top, ok := layers[image.Name]
		if !ok {
			continue
		}
		for _, t := range image.Targets {
			work = append(work, func() error {
				return d.step(image.Name, targetLabel(t), func(sink event.Sink) (bool, string, error) {
					return d.export(ctx, t, top, sink)
				})
			})
		}
	}
	return sideBySide(ctx, work)
}

// sideBySide does the work, a piece for each processor at once, and joins what failed.
func sideBySide(ctx context.Context, work []func() error) error {
	errs := make([]error, len(work))
	slots := semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0)))
	var all sync.WaitGroup
	for i, do := range work {
		all.Go(func() {
			if err := slots.Acquire(ctx, 1); err != nil {
				errs[i] = context.Cause(ctx)
				return
			}
			defer slots.Release(1)
			errs[i] = do()
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func publishLabel(p definition.Publish) string { return fmt.Sprintf("publish %q", p.Repository) }

func targetLabel(t definition.Target) string { return fmt.Sprintf("target %q", t.Name()) }

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

// imageOf is the image of a name; one with nothing in it for what a target needs.
func imageOf(def *definition.Definition, name string) definition.Image {
	for _, image := range def.Images {
		if image.Name == name {
			return image
		}
	}
	return definition.Image{Name: name}
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
