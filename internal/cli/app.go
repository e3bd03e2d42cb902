package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"herdbook/internal/definition"
	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/pin"
	"herdbook/internal/plan"
	"herdbook/internal/source"
	"herdbook/internal/store"
)

// app is one run of the program: the world and the flags that all commands have.
type app struct {
	World
	file     string
	storeDir string
	vars     []string
	varFiles []string
	progress string
}

// root is the tree of commands, written out.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:                        "herdbook",
		Short:                      "Build machine images for cattle once, and deliver them to every place where they boot",
		Args:                       unknownCommand,
		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
		RunE:                       func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Sprintf("%v; see %s --help", err, c.CommandPath())}
	})
	flags := root.PersistentFlags()
	flags.StringVarP(&a.file, "file", "f", definition.DefaultFile, "definition: a file, or a directory of *.hcl files")
	flags.StringVar(&a.storeDir, "store", "", "directory of layers (default $XDG_CACHE_HOME/herdbook)")
	flags.StringArrayVar(&a.vars, "var", nil, "set a variable of the definition, as NAME=VALUE")
	flags.StringArrayVar(&a.varFiles, "var-file", nil, "set variables from a file of assignments")
	flags.StringVar(&a.progress, "progress", "auto", "how to show progress: "+strings.Join(progressModes, ", "))
	root.AddCommand(
		a.initCommand(), a.validateCommand(), a.fmtCommand(), a.planCommand(), a.whyCommand(), a.graphCommand(),
		a.buildCommand(), a.testCommand(), a.shellCommand(), a.publishCommand(), a.exportCommand(), a.pullCommand(), a.repoCommand(),
		a.storeCommand(), a.doctorCommand(), a.versionCommand(),
		a.catCommand(), a.lsCommand(), a.tarOutCommand(), a.getKernelCommand(),
		a.inspectCommand(), a.diffCommand(), a.sysprepCommand(), a.customizeCommand(), a.resizeCommand(), a.trimCommand(),
	)
	return root
}

// parse reads the definition, in which the named images must be.
func (a *app) parse(images ...string) (*definition.Definition, error) {
	variables := map[string]string{}
	for _, v := range a.vars {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return nil, usageError{fmt.Sprintf("--var %s: want NAME=VALUE", v)}
		}
		variables[name] = value
	}
	def, err := definition.Load(a.file, definition.Options{Variables: variables, VariableFiles: a.varFiles, LookupEnv: a.LookupEnv})
	if err != nil {
		return nil, err
	}
	for _, name := range images {
		if !slices.ContainsFunc(def.Images, func(i definition.Image) bool { return i.Name == name || slices.Contains(i.Places(), name) }) {
			return nil, usageError{fmt.Sprintf("there is no image %q in the definition; herdbook graph shows those that there are", name)}
		}
	}
	return def, nil
}

// openStore opens the store of --store, or the user's.
func (a *app) openStore() (*store.Store, error) {
	dir, err := a.storePath()
	if err != nil {
		return nil, err
	}
	return store.Open(dir)
}

// useStore opens the store and keeps collection out until done is called.
func (a *app) useStore(ctx context.Context) (s *store.Store, done func() error, err error) {
	if s, err = a.openStore(); err != nil {
		return nil, nil, err
	}
	done, err = s.Use(ctx)
	return s, done, err
}

func (a *app) storePath() (string, error) {
	if a.storeDir != "" {
		return a.storeDir, nil
	}
	if cache, ok := a.LookupEnv("XDG_CACHE_HOME"); ok && filepath.IsAbs(cache) {
		return filepath.Join(cache, "herdbook"), nil
	}
	home, ok := a.LookupEnv("HOME")
	if !ok || home == "" {
		return "", usageError{"neither XDG_CACHE_HOME nor HOME is set: say with --store where the layers are kept"}
	}
	return filepath.Join(home, ".cache", "herdbook"), nil
}

// lockName is the lock file, beside the definition.
const lockName = "herdbook.lock"

// readLock reads the lock file; without one nothing is pinned.
func readLock(def *definition.Definition) (pin.Lock, error) {
	path := filepath.Join(def.Dir, lockName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return pin.Lock{}, nil
	}
	if err != nil {
		return pin.Lock{}, fmt.Errorf("read lock file: %w", err)
	}
	lock, err := pin.Parse(text)
	if err != nil {
		return lock, fmt.Errorf("read %s: %w; mend it, or remove it to pin everything anew", path, err)
	}
	return lock, nil
}

// pinning is how it is found out what outside names stand for.
type pinning struct {
	refresh   bool // ask for each, whatever its refresh says
	acceptOld bool // take an index of a repository that is older than one that was seen
}

// pin finds out what the definition's outside names stand for now, and writes
// that to the lock file.
func (a *app) pin(ctx context.Context, def *definition.Definition, s *store.Store, how pinning, sink event.Sink) (pin.Lock, error) {
	lock, err := readLock(def)
	if err != nil {
		return lock, err
	}
	wanted, err := a.templates(def, s, how.acceptOld, sink)
	if err != nil {
		return lock, err
	}
	for _, image := range def.Images {
		wanted = append(wanted, wants(image)...)
	}
	r := source.Resolver{
		Fetcher: source.Fetcher{Sink: sink}, Seen: filepath.Join(s.Dir(), "seen"), Now: a.Now(), Force: how.refresh, Sink: sink,
	}
	fresh, err := r.Resolve(ctx, lock, wanted)
	if err != nil {
		return lock, err
	}
	if string(fresh.Format()) == string(lock.Format()) {
		return fresh, nil
	}
	if err := renameio.WriteFile(filepath.Join(def.Dir, lockName), fresh.Format(), 0o644); err != nil {
		return lock, fmt.Errorf("write lock file: %w", err)
	}
	return fresh, nil
}

// wants is what an image uses from outside that must be pinned.
func wants(image definition.Image) []source.Wanted {
	if b := image.Bootstrap; b != nil {
		return []source.Wanted{{
			Suite:   source.Suite{Mirror: b.Mirror, Name: b.Suite, Keyring: b.Keyring},
			Refresh: source.Refresh(b.Refresh),
		}}
	}
	i := image.Install
	switch {
	case i == nil || i.Location.IsDisc():
		return nil // a disc has its checksum
	case i.Location.URL != "":
		return []source.Wanted{{
			Installer: source.Installer{
				Kind: i.Kind, Location: i.Location.URL, Kernel: i.Kernel.Checksum, Initrd: i.Initrd.Checksum, Keyring: i.Keyring,
			},
			Refresh: source.Refresh(i.Refresh),
		}}
	}
	var files []source.Wanted
	for _, m := range []definition.Medium{i.Kernel, i.Initrd} {
		if m.Checksum == "" {
			files = append(files, source.Wanted{File: m.URL, Refresh: source.Always})
		}
	}
	return files
}

// planned parses, pins and plans for a command that only looks.
func (a *app) planned(ctx context.Context, names []string) (*plan.Plan, *store.Store, error) {
	def, err := a.parse(names...)
	if err != nil {
		return nil, nil, err
	}
	if def, err = a.located(def, a.notices()); err != nil {
		return nil, nil, err
	}
	s, err := a.openStore()
	if err != nil {
		return nil, nil, err
	}
	lock, err := a.pin(ctx, def, s, pinning{}, a.notices())
	if err != nil {
		return nil, nil, err
	}
	p, err := plan.New(def, lock)
	if err == nil {
		p, err = p.With(names...)
	}
	return p, s, err
}

// notices prints what concerns the user, for commands without progress.
func (a *app) notices() event.Sink {
	return func(e event.Event) {
		if e.Kind == event.Notice {
			fmt.Fprintln(a.Stderr, "note:", visible(e.Text))
		}
	}
}

// accelerator returns a function that finds the accelerator once, and says so
// if it is not KVM.
func (a *app) accelerator(s *store.Store, sink event.Sink) func(context.Context) (machine.Accelerator, error) {
	var mu sync.Mutex
	var verdict machine.Verdict
	return func(ctx context.Context) (machine.Accelerator, error) {
		mu.Lock()
		defer mu.Unlock()
		if verdict.Accelerator != "" {
			return verdict.Accelerator, nil
		}
		var err error
		if verdict, err = machine.Probe(ctx, s.Dir()); err != nil {
			return "", err
		}
		if verdict.Accelerator == machine.TCG {
			sink.Emit(event.Event{Kind: event.Notice, Text: "software emulation, several times slower than KVM, since " + verdict.Reason})
		}
		return verdict.Accelerator, nil
	}
}
