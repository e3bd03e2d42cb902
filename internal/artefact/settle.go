package artefact

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"herdbook/internal/target"
)

// label names the artefact among all of a directory.
func (o Order) label() string { return o.Image + "." + target.Name(o.Target) }

// begin makes a directory to work in, beside where the files are to be, and removes those
// of the same artefact that processes left which are no more. What it returns last removes
// this one.
func (o Order) begin() (scratch string, done func() error, err error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return "", nil, err
	}
	unlock, err := lock(o.Dir, 0)
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	prefix := "." + o.label() + "~" // which is in no name
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return "", nil, err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		left := filepath.Join(o.Dir, e.Name())
		free, err := lock(left, syscall.LOCK_NB)
		if err != nil {
			continue // somebody works there
		}
		if err := errors.Join(os.RemoveAll(left), free()); err != nil {
			return "", nil, err
		}
	}
	if scratch, err = os.MkdirTemp(o.Dir, prefix); err != nil {
		return "", nil, err
	}
	free, err := lock(scratch, 0)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(scratch))
	}
	return scratch, func() error { return errors.Join(os.RemoveAll(scratch), free()) }, nil
}

// lock locks a directory until what it returns is called, or the process ends. A network
// file system may have no locks of directories; then only one herdbook at a time may work
// there, and what others left stays.
func lock(dir string, how int) (unlock func() error, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = syscall.EINTR
	for err == syscall.EINTR {
		err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX|how)
	}
	if err != nil && how&syscall.LOCK_NB != 0 {
		return nil, errors.Join(err, d.Close())
	}
	return d.Close, nil
}

// settle puts what was made in the place of what was there, of which nothing stays. A
// directory cannot be exchanged in one step: the manifest, gone before and written behind,
// says what is whole.
func (o Order) settle(scratch string, m Manifest) (err error) {
	unlock, err := lock(o.Dir, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	entries, err := os.ReadDir(scratch)
	if err != nil {
		return err
	}
	made := map[string]bool{}
	for _, e := range entries {
		made[e.Name()] = true
	}
	if err := o.unclaimed(made); err != nil {
		return err
	}
	if err := o.clear(made); err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(o.Dir, e.Name())
		if e.IsDir() {
			err = os.RemoveAll(path)
		}
		if err := errors.Join(err, os.Rename(filepath.Join(scratch, e.Name()), path)); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := syncDir(o.Dir); err != nil {
		return err
	}
	return errors.Join(renameio.WriteFile(o.ManifestPath(), append(text, '\n'), 0o644), syncDir(o.Dir))
}

// unclaimed refuses names that another artefact in the directory has: the dots in a name
// may be those of an image, or what sets it apart from the target.
func (o Order) unclaimed(made map[string]bool) error {
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return err
	}
	own := filepath.Base(o.ManifestPath())
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" || !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(o.Dir, e.Name())
		other, err := Read(path)
		if err != nil || other.Image == "" || other.Image == o.Image && other.Target == target.Name(o.Target) {
			continue // no manifest, or that of this artefact
		}
		taken := ""
		for _, f := range other.Files {
			if name := top(f.Name); made[name] {
				taken = name
			}
		}
		if e.Name() == own || made[e.Name()] {
			taken = e.Name()
		}
		if taken != "" {
			return fmt.Errorf("%s is of the target %q of the image %q: give one of the two another output, or delete %s if that image is no more",
				filepath.Join(o.Dir, taken), other.Target, other.Image, path)
		}
	}
	return nil
}

// clear removes the manifest, and files that it tells of and that are not made any more.
func (o Order) clear(made map[string]bool) error {
	old, unread := Read(o.ManifestPath())
	if err := os.Remove(o.ManifestPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if unread != nil {
		return nil
	}
	for _, f := range old.Files {
		if name := top(f.Name); !made[name] && strings.HasPrefix(name, o.Image+".") {
			if err := os.RemoveAll(filepath.Join(o.Dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// top is what a file of an artefact has in its directory: itself, or a directory.
func top(name string) string {
	first, _, _ := strings.Cut(filepath.ToSlash(name), "/")
	return first
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
