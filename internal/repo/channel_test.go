package repo

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"herdbook/internal/peer"
)

// herding is an index that is changed step by step, an hour each.
type herding struct {
	t   *testing.T
	x   Index
	now time.Time
}

func (h *herding) hour() time.Time {
	h.now = h.now.Add(time.Hour)
	return h.now
}

func (h *herding) publish(image, channel string) {
	h.t.Helper()
	e := Entry{Arch: "x86_64", File: "images/x", Facts: Facts{Image: image}}
	var err error
	if h.x, _, err = h.x.Publish(e, channel, h.hour()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *herding) promote(from, to string) {
	h.t.Helper()
	s, err := ParseSelector(from)
	if err == nil {
		h.x, _, err = h.x.Promote(s, to, h.hour())
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *herding) rollback(what string) error {
	s, err := ParseSelector(what)
	if err == nil {
		h.x, _, err = h.x.Rollback(s)
	}
	return err
}

// is holds the sections with their aliases against what is wanted.
func (h *herding) is(want ...string) {
	h.t.Helper()
	var got []string
	for _, e := range h.x.Entries {
		line := strings.Join(append([]string{e.ID}, e.Aliases...), " ")
		if e.Hidden {
			line += " (hidden)"
		}
		got = append(got, line)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		h.t.Error(diff)
	}
	// And virt-builder's reader, and ours, have the same.
	again, err := Parse(Format(h.x))
	if diff := cmp.Diff(h.x, again); err != nil || diff != "" {
		h.t.Error(err, diff)
	}
}

func TestChannelsPointToRevisions(t *testing.T) {
	h := herding{t: t, now: noon}
	h.publish("web", Stable)
	h.is("web web-stable web-r1")
	h.publish("web", "testing")
	h.is("web-r2 web-testing", "web web-stable web-r1")
	h.publish("web", "testing")
	h.is("web-r3 web-testing", "web-r2 (hidden)", "web web-stable web-r1")
	h.promote("web@testing", Stable)
	h.is("web web-stable web-testing web-r3", "web-r2 (hidden)", "web-r1 (hidden)")
	h.promote("web@2", "canary")
	h.is("web web-stable web-testing web-r3", "web-r2 web-canary", "web-r1 (hidden)")
	h.publish("app", "testing")
	h.is("app-r1 app-testing", "web web-stable web-testing web-r3", "web-r2 web-canary", "web-r1 (hidden)")
	if _, err := h.x.Find(Selector{Image: "app"}); !errors.Is(err, ErrNoImage) || !strings.Contains(err.Error(), "there are app@1 testing") {
		t.Errorf("an image that was never released: %v", err)
	}
	for text, want := range map[string]int{"web": 3, "web@stable": 3, "web@canary": 2, "web@1": 1, "app@testing": 1, "web-r2": 2, "web-testing": 3} {
		s, err := ParseSelector(text)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := h.x.Find(s); err != nil || e.Revision != want {
			t.Errorf("%s is revision %d: %v", text, e.Revision, err)
		}
	}
}

func TestRollbackGoesBackStepByStep(t *testing.T) {
	h := herding{t: t, now: noon}
	for range 3 {
		h.publish("web", Stable)
	}
	h.publish("web", "testing")
	for _, want := range []int{2, 1} {
		if err := h.rollback("web"); err != nil {
			t.Fatal(err)
		}
		if e, err := h.x.Find(Selector{Image: "web"}); err != nil || e.Revision != want {
			t.Errorf("revision %d, want %d: %v", e.Revision, want, err)
		}
	}
	if err := h.rollback("web"); err == nil || !strings.Contains(err.Error(), "no revision that it pointed to before 1") {
		t.Error(err)
	}
	if err := h.rollback("web@testing"); err == nil {
		t.Error("a channel goes back to where it never was")
	}
	// What was rolled back can be had again, and the next revision has a new number.
	h.promote("web@3", Stable)
	h.publish("web", Stable)
	h.is("web web-stable web-r5", "web-r4 web-testing", "web-r3 (hidden)", "web-r2 (hidden)", "web-r1 (hidden)")
	// Within one second, too.
	for range 2 {
		h.now = h.now.Add(-time.Hour)
		h.publish("web", Stable)
	}
	if err := h.rollback("web"); err != nil {
		t.Fatal(err)
	}
	if e, _ := h.x.Find(Selector{Image: "web"}); e.Revision != 6 {
		t.Errorf("revision %d, want 6", e.Revision)
	}
}

// What was given up by a step back is not where the next one leads.
func TestRollbackDoesNotLeadToWhatWasGivenUp(t *testing.T) {
	h := herding{t: t, now: noon}
	back := func(want int) {
		t.Helper()
		if err := h.rollback("web"); err != nil {
			t.Fatal(err)
		}
		if e, err := h.x.Find(Selector{Image: "web"}); err != nil || e.Revision != want {
			t.Errorf("revision %d, want %d: %v", e.Revision, want, err)
		}
	}
	for range 3 {
		h.publish("web", Stable)
	}
	back(2)
	h.publish("web", Stable)
	back(2)
	h.promote("web@1", Stable)
	h.promote("web@4", Stable)
	back(1)
	back(2)
}

// A clock that goes back does not change which release was the last.
func TestRollbackDoesNotTrustTheClock(t *testing.T) {
	h := herding{t: t, now: noon}
	h.publish("web", Stable)
	h.publish("web", Stable)
	h.now = noon.Add(-1000 * time.Hour)
	h.publish("web", Stable)
	h.promote("web@2", Stable)
	for _, want := range []int{3, 1} {
		if err := h.rollback("web"); err != nil {
			t.Fatal(err)
		}
		if e, err := h.x.Find(Selector{Image: "web"}); err != nil || e.Revision != want {
			t.Errorf("revision %d, want %d: %v", e.Revision, want, err)
		}
	}
}

func TestWhatThereIsIsToldInBrief(t *testing.T) {
	h := herding{t: t, now: noon}
	for range 23 {
		h.publish("web", Stable)
	}
	if _, err := h.x.Find(Selector{Image: "web", Channel: "canary"}); err == nil || !strings.Contains(err.Error(), "web@23 stable, web@22, ") || !strings.HasSuffix(err.Error(), ", web@4, 3 more") {
		t.Error(err)
	}
}

func TestSplitLosesNothing(t *testing.T) {
	h := herding{t: t, now: noon}
	for _, image := range []string{"web", "app", "web", "db"} {
		h.publish(image, Stable)
	}
	h.x.Version = 3
	var names []string
	var entries []Entry
	for _, part := range h.x.Split() {
		names = append(names, strings.Join(part.Images(), " "))
		entries = append(entries, part.Entries...)
		if part.Version != 3 {
			t.Errorf("%s: version %d", part.Images(), part.Version)
		}
	}
	if diff := cmp.Diff([]string{"app", "db", "web"}, names); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(h.x.Entries, entries); diff != "" {
		t.Error(diff)
	}
}

func TestHistoryEndsWithWhatAChannelPointsTo(t *testing.T) {
	h := herding{t: t, now: noon}
	is := func(channel string, want ...int) {
		t.Helper()
		var got []int
		for _, e := range h.x.History("web", "x86_64", channel) {
			got = append(got, e.Revision)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", channel, diff)
		}
	}
	is(Stable)
	for _, channel := range []string{Stable, "testing", Stable, "testing", Stable} {
		h.publish("web", channel)
	}
	is(Stable, 5, 3, 1)
	is("testing", 4, 2)
	peer.Must(t, h.rollback("web"))
	is(Stable, 3, 1)
	h.promote("web@4", Stable)
	is(Stable, 4, 3, 1)
	h.promote("web@2", Stable) // which it never pointed to
	is(Stable, 2, 1)
	is("other")
}

func TestPruneKeepsWhatIsPointedTo(t *testing.T) {
	h := herding{t: t, now: noon}
	h.publish("web", Stable)
	for range 5 {
		h.publish("web", "testing")
	}
	h.publish("app", Stable)
	h.publish("app", Stable)
	gone := func(p Policy) []string {
		x, gone, err := h.x.Prune(p, h.now)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range gone {
			names = append(names, fmt.Sprintf("%s@%d", e.Of(), e.Revision))
		}
		if len(x.Entries)+len(gone) != len(h.x.Entries) {
			t.Errorf("%+v: %d of %d are left", p, len(x.Entries), len(h.x.Entries))
		}
		return names
	}
	for name, c := range map[string]struct {
		policy Policy
		want   []string
	}{
		"nothing said":       {Policy{}, nil},
		"only a name":        {Policy{Image: "web", Channel: "testing"}, nil},
		"the newest":         {Policy{Keep: 1}, []string{"app@1", "web@5", "web@4", "web@3", "web@2"}},
		"the newest two":     {Policy{Keep: 2}, []string{"web@4", "web@3", "web@2"}},
		"of one image":       {Policy{Keep: 1, Image: "app"}, []string{"app@1"}},
		"by age":             {Policy{MaxAge: 4 * time.Hour}, []string{"web@3", "web@2"}},
		"by both":            {Policy{MaxAge: time.Hour, Keep: 4}, []string{"web@2"}},
		"of one channel":     {Policy{MaxAge: time.Minute, Channel: Stable}, []string{"app@1"}},
		"of another channel": {Policy{Keep: 1, Channel: "testing"}, []string{"web@5", "web@4", "web@3", "web@2"}},
	} {
		if diff := cmp.Diff(c.want, gone(c.policy)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// The newest stays although nothing points to it: its number would be given again.
	if err := h.rollback("app"); err != nil {
		t.Fatal(err)
	}
	if got := gone(Policy{Keep: 1, Image: "app"}); got != nil {
		t.Error(got)
	}
}

func TestIndexesOfOthersAreTakenOver(t *testing.T) {
	x := Index{Entries: []Entry{{ID: "web", Arch: "x86_64", File: "web.xz", Revision: 4, Aliases: []string{"www"}, Other: []Field{{"notes[de]", "x"}}}}}
	x, e, err := x.Publish(Entry{Arch: "x86_64", File: "images/web", Facts: Facts{Image: "web"}}, Stable, noon)
	if err != nil || e.Revision != 5 || !slices.Contains(e.Aliases, "www") {
		t.Errorf("%+v: %v", e, err)
	}
	x, e, err = x.Rollback(Selector{Image: "web"})
	if err != nil || e.Revision != 4 || e.File != "web.xz" || e.ID != "web" || !slices.Contains(e.Aliases, "www") {
		t.Errorf("%+v: %v", e, err)
	}
	if e, err := x.Find(Selector{Image: "www"}); err != nil || e.Revision != 4 {
		t.Errorf("%+v: %v", e, err)
	}
}

func TestNamesThatMeanTwoThingsAreRefused(t *testing.T) {
	h := herding{t: t, now: noon}
	h.publish("web", "testing")
	for _, name := range []string{"web-testing", "web-r1", "Web", "WEB-Testing"} {
		e := Entry{Arch: "x86_64", File: "images/x", Facts: Facts{Image: name}}
		if _, _, err := h.x.Publish(e, Stable, noon); err == nil || !strings.Contains(err.Error(), "would stand for both") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, channel := range []string{"", "a-b", "r5", "Stable", "9", "a b", strings.Repeat("x", 41)} {
		e := Entry{Arch: "x86_64", File: "images/x", Facts: Facts{Image: "app"}}
		if _, _, err := h.x.Publish(e, channel, noon); err == nil {
			t.Errorf("%q is a channel", channel)
		}
	}
	for _, text := range []string{"", "@1", "a b", "web@", "web@0", "web@-1", "web@a-b", "a@b@c", "web@99999999999", "../x"} {
		if s, err := ParseSelector(text); err == nil {
			t.Errorf("%q is %+v", text, s)
		}
	}
	two := h.x
	two.Entries = append(two.Entries, Entry{ID: "web-r1", Arch: "aarch64", File: "x", Revision: 1, Facts: Facts{Image: "web", Channels: []string{"testing"}}})
	if _, err := two.Find(Selector{Image: "web", Channel: "testing"}); err == nil || !strings.Contains(err.Error(), "--arch") {
		t.Error(err)
	}
}

// TestNoStepLosesARevision holds what must be true after any steps.
func TestNoStepLosesARevision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x Index
		now, made := noon, 0
		names, channels := rapid.SampledFrom([]string{"a", "b"}), rapid.SampledFrom([]string{Stable, "testing"})
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1).Draw(t, "seconds")) * time.Second)
			image, channel := names.Draw(t, "image"), channels.Draw(t, "channel")
			var err error
			next := x
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				next, _, err = x.Publish(Entry{Arch: "x86_64", File: "f", Facts: Facts{Image: image}}, channel, now)
				made++
			case 2:
				next, _, err = x.Promote(Selector{Image: image, Revision: rapid.IntRange(1, 5).Draw(t, "revision")}, channel, now)
			case 3:
				next, _, err = x.Rollback(Selector{Image: image, Channel: channel})
			}
			if err == nil {
				x = next
			} else if !errors.Is(err, ErrNoImage) && !strings.Contains(err.Error(), "no revision that it pointed to") {
				t.Fatal(err)
			}
		}
		if len(x.Entries) != made {
			t.Fatalf("%d of %d revisions are left", len(x.Entries), made)
		}
		pointed := map[string]int{}
		for _, e := range x.Entries {
			for _, c := range e.Channels {
				pointed[e.Image+"@"+c]++
			}
		}
		for name, n := range pointed {
			if n != 1 {
				t.Fatalf("%s points to %d revisions", name, n)
			}
		}
		if again, err := Parse(Format(x)); err != nil || cmp.Diff(x, again) != "" {
			t.Fatal(err, cmp.Diff(x, again))
		}
	})
}
