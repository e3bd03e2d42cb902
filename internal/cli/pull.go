package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/repo"
	"herdbook/internal/repo/client"
	"herdbook/internal/store"
	"herdbook/internal/survey"
)

// pullFlags are those of pull.
type pullFlags struct {
	sourceFlags
	arch       string
	output     string
	format     string
	size       string
	linked     bool
	force      bool
	list       bool
	listFormat string
	notes      bool
	memory     int // MiB, of the machine that grows the file system
}

func (a *app) pullCommand() *cobra.Command {
	var f pullFlags
	c := &cobra.Command{
		Use:   "pull NAME[@CHANNEL|@REVISION]",
		Short: "Make a disk image of one in a repository: herdbook's, virt-builder's or a tree of simplestreams",
		Long: "Make a disk image of one in a repository: herdbook's, virt-builder's or a tree of simplestreams. It is fetched once, verified and\n" +
			"kept in the store; an image that is kept is made within moments. With --list the images that there are are listed.",
		Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if f.list || f.notes {
				return a.tellImages(c.Context(), f, args)
			}
			if len(args) == 0 {
				return usageError{"which image? herdbook pull --list tells what there is"}
			}
			return a.pull(c.Context(), args[0], f)
		},
	}
	f.add(c)
	flags := c.Flags()
	flags.StringVar(&f.arch, "arch", client.Arch(runtime.GOARCH), "architecture of the image, by virt-builder's names")
	flags.StringVarP(&f.output, "output", "o", "", "file to write (default NAME.qcow2, or NAME.img for raw)")
	flags.StringVar(&f.format, "format", string(disk.QCOW2), "format of the file: qcow2 or raw")
	flags.StringVar(&f.size, "size", "", "size of its disk, such as 20G; the partition and the file system of the root grow with it")
	flags.BoolVar(&f.linked, "linked", false, "make a qcow2 file that stands on the kept image: at once, but it needs that one for ever")
	flags.BoolVar(&f.force, "force", false, "replace a file that is there")
	flags.BoolVarP(&f.list, "list", "l", false, "list the images that there are, or tell of one")
	flags.StringVar(&f.listFormat, "list-format", "short", "how to list: short, long or json, as virt-builder does")
	flags.BoolVar(&f.notes, "notes", false, "print the notes on an image")
	flags.IntVar(&f.memory, "memory", 1024, "memory in MiB of the machine that grows the file system")
	return c
}

// check refuses flags that cannot be meant, and returns the size that is wanted.
func (f *pullFlags) check() (size int64, err error) {
	if err := enoughMemory(f.memory); err != nil {
		return 0, err
	}
	switch {
	case f.format != string(disk.QCOW2) && f.format != string(disk.Raw):
		return 0, usageError{fmt.Sprintf("--format=%s: want qcow2 or raw", f.format)}
	case f.linked && f.format != string(disk.QCOW2):
		return 0, usageError{"--linked makes a qcow2 file; leave out --format=raw"}
	case f.size == "":
		return 0, nil
	}
	size, err = parseSize("size", f.size)
	return (size + 511) &^ 511, err
}

// free tells where the file goes, if it may.
func (f *pullFlags) free(image string) (string, error) {
	extension := map[string]string{string(disk.QCOW2): ".qcow2", string(disk.Raw): ".img"}[f.format]
	path := cmp.Or(f.output, image+extension)
	switch stat, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil
	case err != nil:
		return "", fmt.Errorf("write %s: %w", path, err)
	case !stat.Mode().IsRegular():
		return "", usageError{fmt.Sprintf("%s is there and no regular file; herdbook writes disk images into files", path)}
	case !f.force:
		return "", usageError{fmt.Sprintf("%s is there already; --force replaces it, --output writes elsewhere", path)}
	}
	return path, nil
}

// pull makes a file of an image, whole or not at all.
func (a *app) pull(ctx context.Context, what string, f pullFlags) (err error) {
	selector, err := repo.ParseSelector(what)
	if err != nil {
		return usageError{err.Error()}
	}
	selector.Arch = f.arch
	size, err := f.check()
	if err != nil {
		return err
	}
	path, err := f.free(selector.Image)
	if err != nil {
		return err
	}
	s, done, err := a.useStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	offer, kept, err := a.get(ctx, s, selector, f)
	if err != nil {
		return err
	}
	if size > 0 && size < kept.Size {
		return usageError{fmt.Sprintf("--size=%s: the disk of %s has %s, and less would cut it off", f.size, selector, survey.Bytes(kept.Size))}
	}
	out := instance{pullFlags: f, path: path, size: max(size, kept.Size), expand: cmp.Or(offer.LVExpand, offer.Expand)}
	if err := a.instantiate(ctx, kept, out); err != nil {
		return err
	}
	if f.linked {
		a.notices().Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf(
			"%s stands on %s, and is lost without it: herdbook store gc removes that when it was not used for long", path, kept.Path)})
	}
	_, err = fmt.Fprintf(a.Stdout, "%s: %s revision %d for %s, %s of %s, from %s\n",
		path, visible(offer.Of()), offer.Revision, visible(client.Arch(offer.Arch)), f.format, survey.Bytes(out.size), offer.From.Source)
	return err
}

// instance is a file to be made of an image.
type instance struct {
	pullFlags
	path   string
	size   int64  // bytes of its disk
	expand string // what grows with it, as resize takes it
}

// get finds an image and brings its disk here, and shows how far it is.
func (a *app) get(ctx context.Context, s *store.Store, selector repo.Selector, f pullFlags) (_ client.Offer, _ client.Disk, err error) {
	show, err := a.newProgress()
	if err != nil {
		return client.Offer{}, client.Disk{}, err
	}
	defer func() { err = errors.Join(err, show.close()) }()
	sink := event.Sink(show.sink).For(selector.Image, "pull")
	c := a.reader(s, f.sourceFlags, sink)
	offer, err := a.find(ctx, c, selector, f.sourceFlags)
	if err != nil {
		return client.Offer{}, client.Disk{}, err
	}
	start := a.Now()
	sink.Emit(event.Event{Kind: event.StepStarted})
	kept, err := c.Disk(ctx, offer)
	if err != nil {
		sink.Emit(event.Event{Kind: event.StepFailed, Text: err.Error(), Elapsed: a.Now().Sub(start)})
		return offer, kept, s.Explain(err)
	}
	sink.Emit(event.Event{Kind: event.StepDone, Elapsed: a.Now().Sub(start)})
	return offer, kept, nil
}

// find finds an image in the repositories that the flags name.
func (a *app) find(ctx context.Context, c *client.Client, selector repo.Selector, f sourceFlags) (client.Offer, error) {
	all, err := a.catalogues(ctx, c, f)
	if err != nil {
		return client.Offer{}, err
	}
	return all.Find(selector)
}

// instantiate makes a file of a kept image.
func (a *app) instantiate(ctx context.Context, kept client.Disk, out instance) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(out.path), ".herdbook-pull-")
	if err != nil {
		return fmt.Errorf("write %s: %w", out.path, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	made := filepath.Join(dir, filepath.Base(out.path))
	format := disk.Format(out.format)
	switch {
	case out.linked:
		err = disk.CreateOverlay(ctx, made, kept.Path, kept.Format, 0)
	case kept.Format == format:
		err = disk.Clone(kept.Path, made)
	default:
		err = disk.Flatten(ctx, kept.Path, made, disk.FlattenOptions{SourceFormat: kept.Format, Format: format})
	}
	if err == nil && out.size > kept.Size {
		err = a.enlarge(ctx, made, out)
	}
	if err == nil {
		err = place(made, out.path, out.force)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", out.path, err)
	}
	return nil
}

// place gives a file its name, in place of another only on purpose.
func place(made, path string, force bool) error {
	if force {
		return os.Rename(made, path)
	}
	err := os.Link(made, path)
	if err != nil && !errors.Is(err, fs.ErrExist) { // not every file system knows links
		err = os.Rename(made, path)
	}
	return err
}

// enlarge makes the disk of an image larger, and what grows with it.
func (a *app) enlarge(ctx context.Context, made string, out instance) error {
	f := resizeFlags{size: fmt.Sprint(out.size), expand: out.expand}
	f.format, f.backing, f.memory, f.lookupEnv = out.format, out.linked, out.memory, a.LookupEnv
	_, err := a.grown(ctx, made, f)
	return err
}
