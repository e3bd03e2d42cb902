// Package buckettest is the suite that every bucket passes. It is for tests only.
package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"herdbook/internal/bucket"
	"herdbook/internal/peer"
)

// Large is the size in bytes of the suite's large objects: S3 takes them in more
// than one part.
const Large = 17<<20 + 3

// Run runs the suite. Each call of empty gives a bucket that nothing is in yet.
func Run(t *testing.T, empty func(t *testing.T) bucket.Bucket) {
	for _, part := range []struct {
		name string
		test func(*testing.T, bucket.Bucket)
	}{
		{"what is not there", absent},
		{"what is put", whole},
		{"conditions", conditions},
		{"other content has another version", versions},
		{"one of many makes it", onlyOne},
		{"compare and swap loses nothing", counter},
		{"readers beside writers", noMixture},
		{"an open reader", openReader},
		{"remove", remove},
		{"list", list},
		{"more than a page", many},
		{"bad names", badNames},
		{"cancelled", cancelled},
		{"content that fails", failing},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, empty(t)) })
	}
}

// Bytes are n bytes that look like no others of another seed.
func Bytes(n int, seed uint64) []byte {
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	p := make([]byte, n)
	_, _ = source.Read(p) // never fails
	return p
}

// Put puts an object, which must succeed.
func Put(t testing.TB, b bucket.Bucket, name, text string) bucket.Object {
	t.Helper()
	o, err := b.Put(t.Context(), name, strings.NewReader(text), bucket.Condition{})
	peer.Must(t, err)
	return o
}

// Get reads an object whole, which must succeed.
func Get(t testing.TB, b bucket.Bucket, name string) (string, bucket.Object) {
	t.Helper()
	text, o, err := read(t.Context(), b, name)
	peer.Must(t, err)
	return string(text), o
}

func read(ctx context.Context, b bucket.Bucket, name string) ([]byte, bucket.Object, error) {
	r, o, err := b.Open(ctx, name)
	if err != nil {
		return nil, o, err
	}
	text, err := io.ReadAll(r)
	return text, o, errors.Join(err, r.Close())
}

// checkAbsent makes sure that no method finds an object.
func checkAbsent(t *testing.T, b bucket.Bucket, name string) {
	t.Helper()
	if r, _, err := b.Open(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open %s: %v", name, err)
		if err == nil {
			peer.Must(t, r.Close())
		}
	}
	found, err := b.List(t.Context(), name)
	if err != nil || slices.ContainsFunc(found, func(o bucket.Object) bool { return o.Name == name }) {
		t.Errorf("list %s: %v %v", name, found, err)
	}
}

func absent(t *testing.T, b bucket.Bucket) {
	for _, name := range []string{"index", "images/web", "images"} {
		checkAbsent(t, b, name)
		peer.Must(t, b.Remove(t.Context(), name))
	}
	if found, err := b.List(t.Context(), ""); err != nil || len(found) > 0 {
		t.Errorf("list: %v %v", found, err)
	}
	Put(t, b, "images/web", "w")
	checkAbsent(t, b, "index")
	checkAbsent(t, b, "images/web/more")
	if _, _, err := b.Open(t.Context(), "images"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open what is no object, but on the way to one: %v", err)
	}
}

func whole(t *testing.T, b bucket.Bucket) {
	for i, size := range []int{0, 1, 4095, 1 << 16, Large, 3} {
		want := Bytes(size, uint64(i))
		before, err := b.List(t.Context(), "")
		peer.Must(t, err)
		put, err := b.Put(t.Context(), "images/web", bytes.NewReader(want), bucket.Condition{})
		peer.Must(t, err)
		text, opened := Get(t, b, "images/web")
		if text != string(want) {
			t.Errorf("%d bytes put, %d others read", size, len(text))
		}
		listed, err := b.List(t.Context(), "")
		peer.Must(t, err)
		if len(listed) != 1 {
			t.Fatalf("listed: %+v", listed)
		}
		for _, o := range []bucket.Object{put, opened, listed[0]} {
			if o.Name != "images/web" || o.Size != int64(size) || o.Version == "" || o.Version != put.Version {
				t.Errorf("%d bytes put as %+v: %+v", size, put, o)
			}
			// The clocks of this test are near, but some tell seconds only.
			known := o != put || !put.Modified.IsZero()
			if d := o.Modified.Sub(listed[0].Modified).Abs(); known && (d > 2*time.Second || time.Since(o.Modified).Abs() > time.Hour) {
				t.Errorf("modified at %v and at %v", o.Modified, listed[0].Modified)
			}
			if len(before) > 0 && before[0].Version == o.Version {
				t.Errorf("the version of other content: %+v", o)
			}
		}
	}
}

func conditions(t *testing.T, b bucket.Bucket) {
	put := func(text string, c bucket.Condition) (bucket.Object, error) {
		return b.Put(t.Context(), "streams/index", strings.NewReader(text), c)
	}
	refused := func(what, text, now string, c bucket.Condition) {
		t.Helper()
		if _, err := put(text, c); !errors.Is(err, bucket.ErrChanged) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
		if now == "" {
			checkAbsent(t, b, "streams/index")
		} else if got, _ := Get(t, b, "streams/index"); got != now {
			t.Errorf("%s: %.20q is there", what, got)
		}
	}
	large := string(Bytes(Large, 1))
	refused("a version of what is not there", "x", "", bucket.Condition{Version: "nonsense"})
	refused("the same, large", large, "", bucket.Condition{Version: "nonsense"})
	one, err := put("one", bucket.Condition{Absent: true})
	peer.Must(t, err)
	refused("absent, but it is there", "two", "one", bucket.Condition{Absent: true})
	refused("absent, but it is there: the same content", "one", "one", bucket.Condition{Absent: true})
	refused("absent, but it is there: large", large, "one", bucket.Condition{Absent: true})
	refused("a version that never was", "two", "one", bucket.Condition{Version: "nonsense"})
	two, err := put("two", bucket.Condition{Version: one.Version})
	peer.Must(t, err)
	refused("an old version", "six", "two", bucket.Condition{Version: one.Version})
	refused("an old version, large", large, "two", bucket.Condition{Version: one.Version})
	three, err := put(large, bucket.Condition{Version: two.Version})
	peer.Must(t, err)
	refused("an old version, of small content", "six", large, bucket.Condition{Version: two.Version})
	_, err = put("four", bucket.Condition{Version: three.Version})
	peer.Must(t, err)
	peer.Must(t, b.Remove(t.Context(), "streams/index"))
	refused("the version of what was removed", "six", "", bucket.Condition{Version: three.Version})
	_, err = put(large, bucket.Condition{Absent: true})
	peer.Must(t, err)
	if _, err := put("x", bucket.Condition{Absent: true, Version: three.Version}); err == nil || errors.Is(err, bucket.ErrChanged) {
		t.Errorf("a condition that never holds: %v", err)
	}
}

func versions(t *testing.T, b bucket.Bucket) {
	seen := map[string]int{}
	for i := range 30 {
		o := Put(t, b, "index", fmt.Sprintf("%03d", i)) // of one size, as fast as it goes
		if before, ok := seen[o.Version]; ok {
			t.Errorf("content %d has the version of content %d: %s", i, before, o.Version)
		}
		seen[o.Version] = i
		if i%10 == 9 {
			peer.Must(t, b.Remove(t.Context(), "index"))
		}
	}
}

func onlyOne(t *testing.T, b bucket.Bucket) {
	const writers = 8
	for round := range 5 {
		name := fmt.Sprintf("images/%d", round)
		won := make([]bool, writers)
		var group errgroup.Group
		for i := range writers {
			group.Go(func() error {
				_, err := b.Put(t.Context(), name, strings.NewReader(fmt.Sprint("writer ", i)), bucket.Condition{Absent: true})
				won[i] = err == nil
				if errors.Is(err, bucket.ErrChanged) {
					return nil
				}
				return err
			})
		}
		peer.Must(t, group.Wait())
		text, _ := Get(t, b, name)
		winner := slices.Index(won, true)
		if winner < 0 || slices.Contains(won[winner+1:], true) || text != fmt.Sprint("writer ", winner) {
			t.Errorf("won: %v; %q is there", won, text)
		}
	}
}

func counter(t *testing.T, b bucket.Bucket) {
	const writers, times = 6, 5
	Put(t, b, "index", "")
	var group errgroup.Group
	for i := range writers {
		group.Go(func() error {
			for done := 0; done < times; {
				text, o, err := read(t.Context(), b, "index")
				if errors.Is(err, bucket.ErrChanged) {
					continue
				}
				if err != nil {
					return err
				}
				line := fmt.Sprintf("%d.%d\n", i, done)
				if strings.Contains(string(text), line) { // its answer was lost
					done++
					continue
				}
				_, err = b.Put(t.Context(), "index", strings.NewReader(string(text)+line), bucket.Condition{Version: o.Version})
				if err == nil {
					done++
				} else if !errors.Is(err, bucket.ErrChanged) {
					return err
				}
			}
			return nil
		})
	}
	peer.Must(t, group.Wait())
	text, _ := Get(t, b, "index")
	lines := strings.Fields(text)
	slices.Sort(lines)
	if len(lines) != writers*times || len(slices.Compact(lines)) != writers*times {
		t.Errorf("%d lines of %d: %q", len(lines), writers*times, text)
	}
}

func noMixture(t *testing.T, b bucket.Bucket) {
	text := func(i int) string { return strings.Repeat(string(rune('a'+i%26)), 20000+i) }
	Put(t, b, "index", text(0))
	contents, whole := sync.Map{}, atomic.Int64{} // version → content
	done := make(chan struct{})
	var group errgroup.Group
	for range 3 {
		group.Go(func() error {
			for {
				select {
				case <-done:
					return nil
				default:
				}
				got, o, err := read(t.Context(), b, "index")
				if errors.Is(err, bucket.ErrChanged) {
					continue
				}
				if err != nil {
					return err
				}
				whole.Add(1)
				if string(got) != text(len(got)-20000) || o.Size != int64(len(got)) {
					return fmt.Errorf("%+v: a mixture of %d bytes", o, len(got))
				}
				if before, ok := contents.LoadOrStore(o.Version, string(got)); ok && before != string(got) {
					return fmt.Errorf("%+v is two contents", o)
				}
			}
		})
	}
	for i := range 30 {
		Put(t, b, "index", text(i))
	}
	close(done)
	peer.Must(t, group.Wait())
	if whole.Load() == 0 {
		t.Error("nothing could be read meanwhile")
	}
}

func openReader(t *testing.T, b bucket.Bucket) {
	old := string(Bytes(Large, 1))
	for what, change := range map[string]func(){
		"replaced by more": func() { Put(t, b, "images/web", string(Bytes(Large+1, 2))) },
		"replaced by less": func() { Put(t, b, "images/web", "short") },
		"removed":          func() { peer.Must(t, b.Remove(t.Context(), "images/web")) },
	} {
		Put(t, b, "images/web", old)
		r, o, err := b.Open(t.Context(), "images/web")
		peer.Must(t, err)
		head := make([]byte, 10)
		_, err = io.ReadFull(r, head)
		peer.Must(t, err)
		change()
		rest, err := io.ReadAll(r)
		switch got := string(head) + string(rest); {
		case err != nil && (!errors.Is(err, bucket.ErrChanged) || !strings.HasPrefix(old, got)), err == nil && got != old:
			t.Errorf("%s: %d bytes of another object: %v", what, len(got), err)
		case o.Size != Large:
			t.Errorf("%s: %+v", what, o)
		}
		peer.Must(t, r.Close())
	}
	checkAbsent(t, b, "index")
}

func remove(t *testing.T, b bucket.Bucket) {
	Put(t, b, "images/deep/er/web", "w")
	Put(t, b, "images/db", "d")
	for range 2 {
		peer.Must(t, b.Remove(t.Context(), "images/deep/er/web"))
		checkAbsent(t, b, "images/deep/er/web")
		if text, _ := Get(t, b, "images/db"); text != "d" {
			t.Errorf("the other one: %q", text)
		}
	}
	// Nothing is left in the way of other names.
	Put(t, b, "images/deep", "e")
	peer.Must(t, b.Remove(t.Context(), "images/deep"))
	_, err := b.Put(t.Context(), "images/deep/er/web", strings.NewReader("again"), bucket.Condition{Absent: true})
	peer.Must(t, err)
	// A directory is no object.
	peer.Must(t, b.Remove(t.Context(), "images"))
	if text, _ := Get(t, b, "images/deep/er/web"); text != "again" {
		t.Errorf("put again: %q", text)
	}
}
