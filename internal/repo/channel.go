package repo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrNoImage is wrapped by the error that says that no revision is what was asked for.
var ErrNoImage = errors.New("no such image")

// ParseSelector reads NAME, NAME@CHANNEL or NAME@REVISION.
func ParseSelector(text string) (Selector, error) {
	image, which, given := strings.Cut(text, "@")
	s := Selector{Image: image}
	switch n, err := number(which, 31); {
	case image == "" || !all(image, "-._:"): // simplestreams have colons
		return s, fmt.Errorf("%.60q names no image: want NAME, NAME@CHANNEL or NAME@REVISION", text)
	case !given:
	case err == nil && n > 0:
		s.Revision = int(n)
	case CheckChannel(which) == nil:
		s.Channel = which
	default:
		return s, fmt.Errorf("%.60q: %.40q is neither a channel nor a revision", text, which)
	}
	return s, nil
}

// Find returns the revision that a selector means. In an index of others a plain
// name can be any that virt-builder takes: an alias, or what stands in brackets.
func (x Index) Find(s Selector) (Entry, error) {
	var found []Entry
	for _, e := range x.Entries {
		if (s.Arch == "" || e.Arch == s.Arch) && e.is(s) {
			found = append(found, e)
		}
	}
	switch {
	case len(found) == 0:
		return Entry{}, fmt.Errorf("%w: %s%s", ErrNoImage, s, x.near(s))
	case len(found) > 1:
		return Entry{}, fmt.Errorf("%s is there for %s and %s; say which with --arch", s, found[0].Arch, found[1].Arch)
	}
	return found[0], nil
}

// is tells whether a selector means the entry.
func (e Entry) is(s Selector) bool {
	switch {
	case s.Revision > 0:
		return e.Of() == s.Image && e.Revision == s.Revision
	case s.Channel == "" || s.Channel == Stable:
		return e.ID == s.Image || s.Channel == "" && slices.Contains(e.Aliases, s.Image)
	}
	return e.Of() == s.Image && e.Has(s.Channel)
}

// near says what there is in place of what was asked for.
func (x Index) near(s Selector) string {
	var there []string
	for _, e := range x.Revisions(s.Image, "") {
		there = append(there, strings.Join(append([]string{fmt.Sprintf("%s@%d", e.Of(), e.Revision)}, e.Channels...), " "))
	}
	switch images := x.Images(); {
	case len(there) > 0:
		return "; there are " + some(there)
	case len(images) == 0:
		return "; the repository is empty"
	default:
		return "; there are " + some(images)
	}
}

// some are the first of what there is.
func some(list []string) string {
	const most = 20
	if len(list) > most {
		list = append(list[:most:most], fmt.Sprintf("%d more", len(list)-most))
	}
	return strings.Join(list, ", ")
}

// Publish adds a revision: its Revision becomes one more than the highest there
// was, and the channel points to it.
func (x Index) Publish(e Entry, channel string, now time.Time) (Index, Entry, error) {
	e.Revision = 1
	for _, old := range x.Entries {
		if old.Of() == e.Image && old.Arch == e.Arch {
			e.Revision = max(e.Revision, old.Revision+1)
		}
	}
	e.Published, e.Channels, e.Released = inSeconds(now), nil, nil
	x = x.adopt(e.Image)
	x.Entries = append(slices.Clone(x.Entries), e)
	return x.point(e, channel, now)
}

// Promote makes a channel point to the revision that another selector means.
func (x Index) Promote(from Selector, channel string, now time.Time) (Index, Entry, error) {
	e, err := x.Find(from)
	if err != nil {
		return x, Entry{}, err
	}
	if e.Has(channel) {
		return x, e, nil
	}
	x = x.adopt(e.Of())
	return x.point(e, channel, now)
}

// Rollback makes a channel point to the revision that it pointed to before, or to
// one that is given and that it pointed to at some time.
func (x Index) Rollback(s Selector) (Index, Entry, error) {
	channel := s.Channel
	if channel == "" {
		channel = Stable
	}
	present, err := x.Find(Selector{Image: s.Image, Arch: s.Arch, Channel: channel})
	if err != nil {
		return x, Entry{}, err
	}
	var to Entry
	for _, e := range x.Revisions(present.Of(), present.Arch) {
		switch {
		case !e.Was(channel) || e.Revision == present.Revision || s.Revision > 0 && e.Revision != s.Revision:
		case s.Revision > 0 || e.before(present, channel) && (to.Revision == 0 || to.before(e, channel)):
			to = e
		}
	}
	if to.Revision == 0 {
		return x, Entry{}, fmt.Errorf("%s@%s: there is no revision that it pointed to before %d", s.Image, channel, present.Revision)
	}
	return x.point(to, channel, time.Time{})
}

// inSeconds is a time as the index tells it.
func inSeconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// before tells whether a channel came to point to e before it came to other.
func (e Entry) before(other Entry, channel string) bool {
	a, _ := e.released(channel)
	b, _ := other.released(channel)
	return a.Before(b) || a.Equal(b) && e.Revision < other.Revision
}

// point moves a channel of an image. What is moved back keeps the time of its
// release, so that another step back goes further: then now is zero.
func (x Index) point(to Entry, channel string, now time.Time) (Index, Entry, error) {
	if err := CheckChannel(channel); err != nil {
		return x, Entry{}, err
	}
	x.Entries = slices.Clone(x.Entries)
	if !now.IsZero() {
		now = x.release(to, channel, now)
	}
	for i := range x.Entries {
		e := &x.Entries[i]
		if e.Of() != to.Of() || e.Arch != to.Arch {
			continue
		}
		e.Channels = without(e.Channels, func(c string) bool { return c == channel })
		if e.Revision != to.Revision {
			continue
		}
		e.Channels = append(e.Channels, channel)
		if !now.IsZero() {
			e.setReleased(channel, now)
		}
	}
	x, err := x.settle()
	if err != nil {
		return x, Entry{}, fmt.Errorf("%s@%s: %w", to.Of(), channel, err)
	}
	to, err = x.Find(Selector{Image: to.Of(), Arch: to.Arch, Revision: to.Revision})
	return x, to, err
}

// release returns when a channel comes to point to a revision that it goes on to.
// What it points to until then may be there by a step back: it gets a time after what
// was given up, so that the next step back leads to it and not to that.
func (x Index) release(to Entry, channel string, now time.Time) time.Time {
	for i := range x.Entries {
		e := &x.Entries[i]
		if e.Of() == to.Of() && e.Arch == to.Arch && e.Has(channel) {
			was, _ := e.released(channel)
			e.setReleased(channel, x.afterOthers(*e, channel, was))
		}
	}
	return x.afterOthers(to, channel, inSeconds(now))
}

// afterOthers is a time, or the first after it, by which a channel came to point to a
// revision after all others, whatever the clock said then.
func (x Index) afterOthers(to Entry, channel string, at time.Time) time.Time {
	for _, e := range x.Revisions(to.Of(), to.Arch) {
		t, was := e.released(channel)
		if was && e.Revision != to.Revision && (t.After(at) || t.Equal(at) && e.Revision > to.Revision) {
			at = t.Add(time.Second)
		}
	}
	return at
}

// setReleased notes when a channel came to point to the revision.
func (e *Entry) setReleased(channel string, at time.Time) {
	e.Released = append(without(e.Released, func(r Release) bool { return r.Channel == channel }), Release{channel, at})
}

// without copies a list but for some; an empty one is nil.
func without[T any](list []T, some func(T) bool) []T {
	var kept []T
	for _, one := range list {
		if !some(one) {
			kept = append(kept, one)
		}
	}
	return kept
}

// adopt takes an image over that was published without channels, by another program
// or by hand: what it has is what stable points to.
func (x Index) adopt(image string) Index {
	x.Entries = slices.Clone(x.Entries)
	for i := range x.Entries {
		e := &x.Entries[i]
		if e.ID == image && e.Image == "" {
			e.Image, e.Channels, e.Released = image, []string{Stable}, []Release{{Stable, e.Published}}
		}
	}
	return x
}

// Policy says which revisions are kept when a repository is pruned. The zero value
// keeps all.
type Policy struct {
	Image   string        // only of this one; "" for all
	Keep    int           // the newest of each image and architecture that stay whatever their age; 0 does not say
	MaxAge  time.Duration // how old a revision may be; 0 does not say
	Channel string        // only those that this channel pointed to; "" does not say
}

// Prune returns the index without the revisions that a policy gives up, and those.
// What a channel points to is never among them, nor the newest, whose number must
// not be given to another, and where neither number nor age is given nothing is.
func (x Index) Prune(p Policy, now time.Time) (Index, []Entry, error) {
	var kept, gone []Entry
	newer := map[[2]string]int{} // the entries come with the newest first
	if p.Keep == 0 && p.MaxAge == 0 {
		return x, nil, nil
	}
	for _, e := range x.Entries {
		if e.Image == "" || p.Image != "" && e.Image != p.Image || p.Channel != "" && !e.Was(p.Channel) {
			kept = append(kept, e)
			continue
		}
		of := [2]string{e.Image, e.Arch}
		spared := newer[of] < max(p.Keep, 1) || p.MaxAge > 0 && now.Sub(e.Published) <= p.MaxAge
		newer[of]++
		if spared || len(e.Channels) > 0 {
			kept = append(kept, e)
		} else {
			gone = append(gone, e)
		}
	}
	x.Entries = kept
	x, err := x.settle()
	return x, gone, err
}
