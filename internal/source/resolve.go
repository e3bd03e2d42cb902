package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// Wanted is a suite that a definition uses.
type Wanted struct {
	Suite
	Refresh Refresh
}

// Resolver brings a lock up to date.
type Resolver struct {
	Fetcher Fetcher
	Seen    string    // directory that remembers when a suite was last asked for
	Now     time.Time // what to take for the present
	Force   bool      // ask for every suite, whatever its policy
	Sink    event.Sink
}

// Resolve returns a lock with a pin for each suite of wanted and for nothing
// else. A suite that is pinned already and cannot be reached keeps its pin,
// with a notice; a wrong signature is always an error.
func (r *Resolver) Resolve(ctx context.Context, lock pin.Lock, wanted []Wanted) (pin.Lock, error) {
	var names []string
	for _, w := range wanted {
		names = append(names, w.PinName())
		old, pinned := lock.Get(w.PinName())
		if pinned && !r.due(w) {
			continue
		}
		fresh, err := r.Fetcher.Release(ctx, w.Suite, r.Now)
		if err != nil && pinned && !r.Force && ctx.Err() == nil && errors.Is(err, errUnreachable) {
			r.Sink.Emit(event.Event{Kind: event.Notice, Text: fmt.Sprintf("%v; going on with what is pinned, dated %s", err, old.Dated)})
			continue
		}
		if err != nil {
			return lock, err
		}
		lock = lock.With(fresh)
		if err := r.remember(w); err != nil {
			return lock, err
		}
	}
	return lock.Only(names), nil
}

func (r *Resolver) due(w Wanted) bool {
	switch {
	case r.Force || w.Refresh == Always:
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
		return fmt.Errorf("remember the look at %s: %w", w.PinName(), err)
	}
	if err := os.WriteFile(r.seenPath(w), []byte(r.Now.Format(time.RFC3339)), 0o644); err != nil {
		return fmt.Errorf("remember the look at %s: %w", w.PinName(), err)
	}
	return nil
}

func (r *Resolver) seenPath(w Wanted) string {
	return filepath.Join(r.Seen, string(digest.Of([]byte(w.PinName()))))
}
