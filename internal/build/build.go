// Package build walks a plan: it looks each step's layer up, or makes it, in a
// machine or on the host, and records it; then it runs the tests. Images that do
// not stand on one another are built side by side. Delivering is left to others.
package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/plan"
	"herdbook/internal/store"
	"herdbook/internal/workshop"
)

// Builder builds. All fields but KeepFailed, Fits and Environment must be set.
type Builder struct {
	Store *store.Store
	Sink  event.Sink
	Now   func() time.Time
	// Accelerator is asked once a machine is needed, perhaps by several
	// goroutines.
	Accelerator func(context.Context) (machine.Accelerator, error)
	Agent       func() ([]byte, error)
	// Template fetches what a template is pinned to and returns the path of the
	// verified file, which nobody changes.
	Template   func(context.Context, plan.Template, event.Sink) (string, error)
	Jobs       int  // layers made at once
	Memory     int  // MiB of a machine
	CPUs       int  // of a machine
	KeepFailed bool // keep the disk of a step that failed, for a look inside
	Retest     bool // run tests again that were passed
	// Fits tells why the system on a layer cannot have what a target makes of it; nil: all can.
	Fits func(definition.Target, digest.Digest) error
	// Environment is that of the user's own programs on the host, as NAME=VALUE. No
	// secret is in it.
	Environment []string
	Packages    bool // keep what installers fetch for the next ones, where the program for it is installed
}

// The time limits of what names none.
const (
	stepTimeout = 30 * time.Minute
	testTimeout = 15 * time.Minute
)

// StepError is the failure of one step or test.
type StepError struct {
	Image, Step, Position string
	Err                   error
	Log                   []string // the last lines that it said
	Kept                  string   // directory that its disk and its log were kept in; "": they were not
	Whole                 bool     // the machine was kept, too, and goes on where it was
	Screen                string   // path of a screenshot of a machine that hung; "": there is none
}

// Error implements error.
func (e *StepError) Error() string {
	if e.Position == "" { // of no definition
		return fmt.Sprintf("%s: %s: %v", e.Image, e.Step, e.Err)
	}
	return fmt.Sprintf("image %q, %s (%s): %v", e.Image, e.Step, e.Position, e.Err)
}

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Build makes every layer of the plan and passes every test, and returns the
// top layer of each image that came so far. When a step fails, images that
// stand on it are left out, others are finished; the error joins all failures.
func (b *Builder) Build(ctx context.Context, p *plan.Plan) (map[string]digest.Digest, error) {
	r := &run{Builder: b, slots: semaphore.NewWeighted(int64(max(1, b.Jobs))), images: map[string]*outcome{}, secrets: secretsOf(p)}
	if b.Packages {
		r.packages.dir = b.Store.PackagesDir()
	}
	for _, image := range p.Images {
		r.images[image.Name] = &outcome{done: make(chan struct{})}
	}
	for _, image := range p.Images {
		go func() {
			o := r.images[image.Name]
			defer close(o.done)
			o.layer, o.err = r.image(ctx, image)
		}()
	}
	layers := map[string]digest.Digest{}
	var errs []error
	for _, image := range p.Images {
		o := r.images[image.Name]
		<-o.done
		if o.err == nil {
			layers[image.Name] = o.layer
		} else if !errors.Is(o.err, errParent) {
			errs = append(errs, o.err)
		}
	}
	errs = append(errs, r.packages.close())
	return layers, errors.Join(errs...)
}

// Announce reports every step and test of an image as queued.
func Announce(image plan.Image, sink event.Sink) {
	for _, step := range image.Steps {
		sink.Emit(event.Event{Kind: event.StepQueued, Image: image.Name, Step: step.Label()})
	}
	for _, t := range image.Tests {
		sink.Emit(event.Event{Kind: event.StepQueued, Image: image.Name, Step: t.Label()})
	}
}

// run is one call of Build.
type run struct {
	*Builder
	slots    *semaphore.Weighted
	images   map[string]*outcome
	packages packages
	secrets  []string // that what is built can hold
}

// outcome is what became of an image; it is read when done is closed.
type outcome struct {
	done  chan struct{}
	layer digest.Digest
	err   error
}

// errParent says that the image below failed.
var errParent = errors.New("the image that it is made from failed")

// image builds one image when its parent is there.
func (r *run) image(ctx context.Context, image plan.Image) (digest.Digest, error) {
	var top digest.Digest
	if parent, ok := r.images[image.From]; ok {
		<-parent.done
		if parent.err != nil {
			r.skip(image, 0)
			return "", errParent
		}
		top = parent.layer
	}
	if image.Place != nil && r.Fits != nil {
		if err := r.Fits(*image.Place, top); err != nil {
			r.skip(image, 0)
			return "", &StepError{Image: image.From, Step: fmt.Sprintf("target %q", image.Place.Name()), Position: image.Position, Err: err}
		}
	}
	for i, step := range image.Steps {
		layer, err := r.step(ctx, step, top)
		if err != nil {
			r.skip(image, i+1)
			return "", err
		}
		top = layer.Digest
	}
	return top, r.test(ctx, image, top)
}

// skip says that an image's steps from i on will not be done.
func (r *run) skip(image plan.Image, i int) {
	for _, step := range image.Steps[i:] {
		r.Sink.Emit(event.Event{Kind: event.StepSkipped, Image: image.Name, Step: step.Label()})
	}
	for _, t := range image.Tests {
		r.Sink.Emit(event.Event{Kind: event.StepSkipped, Image: image.Name, Step: t.Label()})
	}
}

// step returns a step's layer: one that is there, or a new one.
func (r *run) step(ctx context.Context, step plan.Step, parent digest.Digest) (store.Layer, error) {
	sink := r.Sink.For(step.Image, step.Label())
	key := step.Key(parent)
	if layer, ok, err := r.cached(key, sink); ok || err != nil {
		return layer, err
	}
	slots := r.slotsFor(step)
	if err := r.slots.Acquire(ctx, slots); err != nil {
		return store.Layer{}, context.Cause(ctx)
	}
	defer r.slots.Release(slots)
	unlock, err := r.Store.LockKey(ctx, key)
	if err != nil {
		return store.Layer{}, r.failed(step, sink, nil, err)
	}
	layer, err := r.makeLayer(ctx, step, parent, sink)
	return layer, errors.Join(err, unlock())
}

// slotsFor is how many of the machines that fit into the host's memory a step takes
// the place of: installers need more than others.
func (r *run) slotsFor(step plan.Step) int64 {
	if step.Install == nil || r.Memory <= 0 {
		return 1
	}
	whole := (step.Install.Memory + r.Memory - 1) / r.Memory
	return int64(min(max(1, whole), max(1, r.Jobs)))
}

// cached looks a layer up and says so.
func (r *run) cached(key store.Key, sink event.Sink) (store.Layer, bool, error) {
	layer, ok, err := r.Store.Lookup(key)
	if !ok || err != nil {
		return layer, false, err
	}
	// A read-only store serves its layers all the same.
	_ = r.Store.Touch(layer.Digest, r.Now())
	sink.Emit(event.Event{Kind: event.StepCached, Layer: string(layer.Digest)})
	return layer, true, nil
}

func (r *run) makeLayer(ctx context.Context, step plan.Step, parent digest.Digest, sink event.Sink) (store.Layer, error) {
	key := step.Key(parent)
	// Another process may have made it while this one waited.
	if layer, ok, err := r.cached(key, sink); ok || err != nil {
		return layer, err
	}
	start := r.Now()
	sink.Emit(event.Event{Kind: event.StepStarted})
	work, err := r.Store.Begin(parent)
	if err != nil {
		return store.Layer{}, r.failed(step, sink, nil, err)
	}
	log := &journal{w: work, now: r.Now}
	how, err := r.work(ctx, step, key, work, event.Tee(sink, log.sink))
	if err != nil {
		return store.Layer{}, r.abandon(work, step, sink, log, r.explain(err))
	}
	var inputs []string
	for _, line := range step.Lines(parent) {
		inputs = append(inputs, line.String())
	}
	layer, err := work.Commit(store.Layer{
		Key: key, Inputs: inputs, Image: step.Image, Step: step.Label(),
		Created: r.Now().UTC(), Elapsed: r.Now().Sub(start), How: how,
	})
	if err != nil {
		return layer, errors.Join(r.failed(step, sink, log, err), work.Discard())
	}
	sink.Emit(event.Event{Kind: event.StepDone, Layer: string(layer.Digest), Elapsed: layer.Elapsed})
	return layer, nil
}

// abandon ends the work of a step that failed.
func (r *run) abandon(work *store.Work, step plan.Step, sink event.Sink, log *journal, err error) error {
	failure := r.failed(step, sink, log, err)
	// Nobody wants to look into what was interrupted, or never had a disk.
	if !r.KeepFailed || errors.Is(err, context.Canceled) || step.Bootstrap != nil || !exists(work.DiskPath()) {
		return errors.Join(failure, work.Discard())
	}
	if err := work.Keep(step.Image); err != nil {
		return errors.Join(failure, err, work.Discard())
	}
	if path, ok := r.Store.Failed(step.Image); ok {
		failure.kept(filepath.Dir(path))
	}
	return failure
}

// kept says what there is to look at, in a directory.
func (e *StepError) kept(dir string) {
	e.Kept, e.Whole = dir, workshop.KeptWhole(KeptMachine(dir))
	if screen := filepath.Join(dir, screenName); exists(screen) {
		e.Screen = screen
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// explain adds what can be done about a failure on the host; one of the work in
// the guest speaks for itself.
func (r *run) explain(err error) error {
	var inGuest *workshop.FailedError
	if errors.As(err, &inGuest) {
		return err
	}
	return r.Store.Explain(err)
}

func (r *run) failed(step plan.Step, sink event.Sink, log *journal, err error) *StepError {
	sink.Emit(event.Event{Kind: event.StepFailed, Text: err.Error()})
	failure := &StepError{Image: step.Image, Step: step.Label(), Position: step.Position, Err: err}
	if part, ok := failedPart(step, err); ok {
		failure.Step, failure.Position = plan.Label(part), part.Position
	}
	var installer *InstallError
	if errors.As(err, &installer) {
		failure.Log = installer.Report()
	} else if log != nil {
		var inGuest *workshop.FailedError
		failure.Log = log.last(errors.As(err, &inGuest))
	}
	return failure
}

// journal writes events into a layer's log, and keeps the last lines of it.
type journal struct {
	w     io.Writer
	now   func() time.Time
	mu    sync.Mutex
	said  []string // by programs
	lines []string // by them and on the console
}

const lastLines = 12

func (j *journal) sink(e event.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Time = j.now().UTC()
	if e.Kind == event.Log && e.Stream != event.Kernel { // which is long, and for a second look
		j.lines = lastOf(append(j.lines, e.Text))
		if e.Stream != event.Console {
			j.said = lastOf(append(j.said, e.Text))
		}
	}
	if e.Kind == event.Progress {
		return
	}
	p, err := json.Marshal(e)
	if err != nil {
		return
	}
	// A log that cannot be written shows at the commit, which syncs it.
	_, _ = j.w.Write(append(p, '\n'))
}

func lastOf(lines []string) []string { return lines[max(0, len(lines)-lastLines):] }

// forget forgets what programs said so far: it was said in another test.
func (j *journal) forget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.said = nil
}

// last returns the last lines. Where the work itself failed, what programs said
// tells why; where the machine did, the console.
func (j *journal) last(ofPrograms bool) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if ofPrograms {
		return slices.Clone(j.said)
	}
	return slices.Clone(j.lines)
}
