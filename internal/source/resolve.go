package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/pin"
)

// Refresh says when a pinned suite is asked for again.
type Refresh string

// The policies of a definition's refresh.
const (
	Never  Refresh = "never"  // only when there is no pin
	Daily  Refresh = "daily"  // when the last look is a day old
	Always Refresh = "always" // at every plan
)

// Template is an image of a repository.
type Template struct {
	Name  string                                 // of its pin
	Trust string                                 // what the answer depends on beside it: whose signature is good
	Look  func(context.Context) (pin.Pin, error) // asks the repository
}

// Wanted is something outside that a definition uses: exactly one of Suite,
// Installer, File and Template is set.
type Wanted struct {
	Suite     Suite
	Installer Installer
	File      string // address of a file that the definition gives without a checksum
	Template  Template
	Refresh   Refresh
}

// name is what the whole of it is called in the lock file.
func (w Wanted) name() string {
	switch {
	case w.Installer.Location != "":
		return pin.InstallerName(w.Installer.Location, "")
	case w.File != "":
		return pin.FileName(w.File)
	case w.Template.Name != "":
		return w.Template.Name
	}
	return w.Suite.PinName()
}

// pins are the names of its pins.
func (w Wanted) pins() []string {
	if w.Installer.Location != "" {
		return w.Installer.PinNames()
	}
	return []string{w.name()}
}

// question is what a look is remembered by: all that its answer depends on.
func (w Wanted) question() string {
	i := w.Installer
	return strings.Join([]string{w.name(), w.Suite.Keyring, i.Kind, i.Keyring, string(i.Kernel), string(i.Initrd), w.Template.Trust}, "\n")
}

// pinned tells whether a lock says all of it, as the definition has it: kernel and
// initrd of a tree, each with the checksum that is given. A given SHA-512 cannot be
// held against a pin.
func (w Wanted) pinned(lock pin.Lock) bool {
	names, given := w.pins()[:1], []digest.Checksum{""}
	if i := w.Installer; i.Location != "" {
		names, given = w.pins()[:2], []digest.Checksum{i.Kernel, i.Initrd}
	}
	for n, name := range names {
		p, ok := lock.Get(name)
		if !ok || given[n] != "" && given[n] != p.Checksum {
			return false
		}
	}
	return true
}

// local tells whether it lies on this machine, where a look costs nothing.
func (w Wanted) local() bool {
	return strings.HasPrefix(w.Installer.Location, "file:") || strings.HasPrefix(w.File, "file:")
}

// Resolver brings a lock up to date.
type Resolver struct {
	Fetcher Fetcher
	Seen    string    // directory that remembers when a suite was last asked for
	Now     time.Time // what to take for the present
	Force   bool      // ask for every suite, whatever its policy
	Sink    event.Sink
}

// Resolve returns a lock with the pins of wanted and none else. What is pinned
// already and cannot be reached keeps its pins, with a notice; a wrong signature
// or checksum is always an error.
func (r *Resolver) Resolve(ctx context.Context, lock pin.Lock, wanted []Wanted) (pin.Lock, error) {
	var names []string
	for _, w := range wanted {
		names = append(names, w.pins()...)
		pinned := w.pinned(lock)
		if pinned && !r.due(w) {
			continue
		}
		fresh, err := r.look(ctx, w)
		old, _ := lock.Get(w.pins()[0])
		if err != nil && pinned && !r.Force && ctx.Err() == nil && errors.Is(err, ErrUnreachable) {
			r.Sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("%v; going on with what is pinned%s", err, dated(old))})
			continue
		}
		if err != nil {
			return lock, err
		}
		lock = lock.Without(w.pins()) // a look may find fewer
		for _, p := range fresh {
			lock = lock.With(p)
		}
		if err := r.remember(w); err != nil {
			return lock, err
		}
	}
	return lock.Only(names), nil
}

// look finds out what something outside stands for now.
func (r *Resolver) look(ctx context.Context, w Wanted) ([]pin.Pin, error) {
	switch {
	case w.Installer.Location != "":
		return r.Fetcher.Installer(ctx, w.Installer, r.Now)
	case w.File != "":
		p, err := r.Fetcher.digest(ctx, w.File)
		p.Name = w.name()
		return []pin.Pin{p}, err
	case w.Template.Name != "":
		p, err := w.Template.Look(ctx)
		return []pin.Pin{p}, err
	}
	p, err := r.Fetcher.Release(ctx, w.Suite, r.Now)
	return []pin.Pin{p}, err
}

func dated(p pin.Pin) string {
	if p.Dated == "" {
		return ""
	}
	return ", dated " + p.Dated
}

func (r *Resolver) due(w Wanted) bool {
	switch {
	case r.Force || w.Refresh == Always || w.local():
		return true
	case w.Refresh == Never:
		return false
	}
	text, err := os.ReadFile(r.seenPath(w))
	if err != nil {
		return true
	}
	seen, err := time.Parse(time.RFC3339, string(text))
	return err != nil || r.Now.Sub(seen) >= 24*time.Hour || seen.After(r.Now)
}

// remember notes that w was asked for now. The note is not worth an fsync: to
// lose it costs one more question.
func (r *Resolver) remember(w Wanted) error {
	if err := os.MkdirAll(r.Seen, 0o755); err != nil {
		return fmt.Errorf("remember the look at %s: %w", w.name(), err)
	}
	if err := os.WriteFile(r.seenPath(w), []byte(r.Now.Format(time.RFC3339)), 0o644); err != nil {
		return fmt.Errorf("remember the look at %s: %w", w.name(), err)
	}
	return nil
}

func (r *Resolver) seenPath(w Wanted) string {
	return filepath.Join(r.Seen, string(digest.Of([]byte(w.question()))))
}
