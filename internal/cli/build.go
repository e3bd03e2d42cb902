package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"herdbook/internal/bootstrap"
	"herdbook/internal/build"
	"herdbook/internal/definition"
	"herdbook/internal/delivery"
	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/plan"
	"herdbook/internal/source"
	"herdbook/internal/store"
	"herdbook/internal/workshop"
)

func (a *app) buildCommand() *cobra.Command {
	o := order{deliver: true}
	c := &cobra.Command{
		Use:   "build [IMAGE…]",
		Short: "Build, test and deliver images, all or those named and what they stand on",
		RunE: func(c *cobra.Command, names []string) error {
			o.names = names
			return a.carryOut(c.Context(), o)
		},
	}
	a.buildFlags(c, &o)
	return c
}

// order is what a command that builds was asked for.
type order struct {
	names []string
	pinning
	jobs    int
	memory  int    // MiB of a machine
	failure string // keep or discard
	keep    time.Duration
	retest  bool
	cache   bool   // keep packages that installers fetch
	deliver bool   // publish and export
	publish bool   // only publish
	target  string // only export to this one, or to all of this kind
	junit   string // file for the results of tests; "" for none
}

func (a *app) buildFlags(c *cobra.Command, o *order) {
	flags := c.Flags()
	flags.BoolVar(&o.refresh, "refresh", false, "ask every repository for its present state first")
	flags.BoolVar(&o.acceptOld, "accept-old", false, "take an index of a repository that is expired, or older than one that was seen")
	flags.IntVarP(&o.jobs, "jobs", "j", 0, "layers to make at once (default: as many as memory and processors allow)")
	flags.IntVar(&o.memory, "memory", 1024, "memory of a machine in MiB")
	flags.BoolVar(&o.cache, "package-cache", true, "keep the packages that installers fetch for the next ones, where apt-cacher-ng is installed")
	flags.StringVar(&o.junit, "junit", "", "write the results of the tests to a file, as JUnit XML")
	flags.StringVar(&o.failure, "on-failure", "keep", "what to do with the disk of a failed step: keep or discard")
	flags.DurationVar(&o.keep, "keep", store.FailedAge, "remove what failed steps left before, if it is older than this")
}

// check refuses what the flags do not allow.
func (o order) check() error {
	switch {
	case o.failure != "keep" && o.failure != "discard":
		return usageError{fmt.Sprintf("--on-failure=%s: want keep or discard", o.failure)}
	case o.keep < 0:
		return usageError{fmt.Sprintf("--keep=%s: want a positive duration", o.keep)}
	case o.jobs < 0:
		return usageError{fmt.Sprintf("--jobs=%d: want a positive number", o.jobs)}
	}
	return enoughMemory(o.memory)
}

// enoughMemory refuses a --memory with which no machine would start.
func enoughMemory(mib int) error {
	if mib < 256 {
		return usageError{fmt.Sprintf("--memory=%d: a machine needs at least 256 MiB", mib)}
	}
	return nil
}

// carryOut tells one build on one screen: parse, pin, plan, build, deliver.
func (a *app) carryOut(ctx context.Context, o order) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	def, err := a.parse(o.names...)
	if err != nil {
		return err
	}
	if def, err = a.located(def, a.notices()); err != nil {
		return err
	}
	s, done, err := a.useStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := s.Expire(a.Now(), o.keep); err != nil {
		return err
	}
	show, err := a.newProgress()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, show.close()) }()
	sink, report, err := a.reporting(o.junit, show.sink)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, report()) }()
	run := attempt{app: a, order: o, definition: def, store: s, sink: sink, accelerate: a.accelerator(s, sink)}
	err = run.do(ctx)
	if (errors.Is(err, bootstrap.ErrMoved) || errors.Is(err, source.ErrMoved)) && !o.refresh {
		// The mirror was updated between the look at it and the use of it.
		run.refresh = true
		run.sink.Emit(event.Event{Kind: event.Notice, Text: "the mirror has changed meanwhile; pinning it anew"})
		err = run.do(ctx)
	}
	return err
}

// attempt is one way through an order, from the pins to the last delivery.
type attempt struct {
	*app
	order
	definition *definition.Definition
	store      *store.Store
	sink       event.Sink
	accelerate func(context.Context) (machine.Accelerator, error)
}

func (t attempt) do(ctx context.Context) error {
	lock, err := t.pin(ctx, t.definition, t.store, t.pinning, t.sink)
	if err != nil {
		return err
	}
	whole, err := plan.New(t.definition, lock)
	if err != nil {
		return err
	}
	part, err := whole.With(t.names...)
	if err != nil {
		return err
	}
	part = part.Delivering(t.wants)
	if err := t.fit(t.store, part, part.Resolve(find(t.store))); err != nil {
		return err
	}
	for _, image := range part.Images {
		build.Announce(image, t.sink)
		if t.deliver {
			delivery.Announce(image.Image, t.sink)
		}
	}
	b, err := t.builder()
	if err != nil {
		return err
	}
	layers, err := b.Build(ctx, part)
	if ctx.Err() == nil {
		err = errors.Join(err, t.hand(ctx, part, layers))
	}
	return errors.Join(err, reach(t.store, t.definition, whole))
}

// builder makes a builder within the machine's memory and processors.
func (t attempt) builder() (*build.Builder, error) {
	o := t.order
	free, err := machine.HostMemory()
	if err != nil {
		return nil, err
	}
	// QEMU itself needs some too, and the host its caches.
	room := max(1, free*3/4/(o.memory+256))
	jobs := min(max(1, runtime.NumCPU()/2), room)
	if o.jobs > 0 {
		jobs = min(o.jobs, room)
	}
	if o.jobs > room {
		t.sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("%d jobs at once instead of %d: %d MiB of memory are free", jobs, o.jobs, free)})
	}
	return &build.Builder{
		Store: t.store, Sink: t.sink, Now: t.Now, Accelerator: t.accelerate, Agent: workshop.Agent, Template: t.fetcher(t.definition, t.store),
		Jobs: jobs, Memory: o.memory, CPUs: min(runtime.NumCPU(), 4), KeepFailed: o.failure == "keep", Retest: o.retest, Packages: o.cache,
		Environment: t.hostEnvironment(), Fits: t.deliverer().Fits,
	}, nil
}

// hostVariables are what a program of the user's may need to find itself and its keys.
// No other one is handed on: secrets come by the environment.
var hostVariables = []string{"PATH", "HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK"}

// hostEnvironment is that of the user's programs on the host.
func (a *app) hostEnvironment() []string {
	var list []string
	for _, name := range hostVariables {
		if value, ok := a.LookupEnv(name); ok {
			list = append(list, name+"="+value)
		}
	}
	return list
}

func (t attempt) deliverer() *delivery.Deliverer {
	return &delivery.Deliverer{Store: t.store, Sink: t.sink, Now: t.Now, LookupEnv: t.LookupEnv, Accelerator: t.accelerate}
}

// hand brings the images that came so far to where they are wanted.
func (t attempt) hand(ctx context.Context, p *plan.Plan, layers map[string]digest.Digest) error {
	d := t.deliverer()
	errs := []error{d.Export(ctx, p.Images, layers)} // first: what is published has boxes of targets in it
	for _, image := range p.Images {
		if _, ok := layers[image.Name]; !ok {
			if t.deliver {
				delivery.Skip(image.Image, t.sink)
			}
			continue
		}
		if t.deliver || t.publish && t.named(image.Name) {
			errs = append(errs, d.Publish(ctx, t.definition, image.Name, layers))
		}
	}
	return errors.Join(errs...)
}

// named tells whether an image was asked for itself.
func (o order) named(name string) bool {
	for _, n := range o.names {
		if n == name {
			return true
		}
	}
	return len(o.names) == 0
}

// reach notes in the store what the definition reaches now, whether built in
// this run or before.
func reach(s *store.Store, def *definition.Definition, p *plan.Plan) error {
	var layers []digest.Digest
	for _, states := range p.Resolve(find(s)) {
		for _, state := range states {
			if state.Layer != "" {
				layers = append(layers, state.Layer)
			}
		}
	}
	return s.Reach(def.Path, layers)
}

// find looks a key up; an unreadable layer is none.
func find(s *store.Store) func(store.Key) (digest.Digest, bool) {
	return func(k store.Key) (digest.Digest, bool) {
		layer, ok, err := s.Lookup(k)
		return layer.Digest, ok && err == nil
	}
}
