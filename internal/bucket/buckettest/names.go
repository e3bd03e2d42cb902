package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"herdbook/internal/bucket"
	"herdbook/internal/peer"
)

// awkward are names that an encoding, an order or a web server may trip over.
var awkward = []string{
	"%41", "a", "a b", "a!b/x", "a#b", "a&b=c;d", "a'b", "a+b", "a-b", "a.b", "a..b", "a=b", "a?b", "aa/b/c", "aa-b", "aa.b", "aa0", "b~",
	"images/db-0123456789ab.xz", "images/web-0123456789ab.qcow2", "images.json", "index", "index.asc", "[x]", "streams/v1/index.json", "ü/é", "日本",
}

func listed(t *testing.T, b bucket.Bucket, prefix string) []string {
	t.Helper()
	found, err := b.List(t.Context(), prefix)
	peer.Must(t, err)
	names := []string{}
	for _, o := range found {
		if o.Size != int64(len(o.Name)) {
			t.Errorf("%+v has %d bytes", o, len(o.Name))
		}
		names = append(names, o.Name)
	}
	return names
}

// list has every object be its own name.
func list(t *testing.T, b bucket.Bucket) {
	for _, name := range awkward {
		Put(t, b, name, name)
	}
	want := slices.Sorted(slices.Values(awkward))
	for _, prefix := range []string{
		"", "a", "aa", "aa/", "aa/b", "images", "images/", "images/w", "images/web-0123456789ab.qcow2", "index", "ü", "a!", "%", "a ", "a+", "%4", "nothing",
		"/", ".", "../", "aa//", "images/.", "a\n", strings.Repeat("x", 3000),
	} {
		wanted := []string{}
		for _, name := range want {
			if strings.HasPrefix(name, prefix) {
				wanted = append(wanted, name)
			}
		}
		if got := listed(t, b, prefix); !slices.Equal(got, wanted) {
			t.Errorf("list %.20q: %q, not %q", prefix, got, wanted)
		}
	}
	for _, name := range awkward {
		if text, o := Get(t, b, name); text != name || o.Name != name {
			t.Errorf("open %q: %q %+v", name, text, o)
		}
		peer.Must(t, b.Remove(t.Context(), name))
		checkAbsent(t, b, name)
	}
	if got := listed(t, b, ""); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}

// many is more than the thousand that S3 lists at once.
func many(t *testing.T, b bucket.Bucket) {
	const count = 1100
	var group errgroup.Group
	group.SetLimit(8)
	want := []string{}
	for i := range count {
		name := fmt.Sprintf("images/%d/%d%s", i%7, i, []string{"", ".x", "-x"}[i%3])
		want = append(want, name)
		group.Go(func() error {
			_, err := b.Put(t.Context(), name, strings.NewReader(name), bucket.Condition{Absent: true})
			return err
		})
	}
	Put(t, b, "index", "index")
	peer.Must(t, group.Wait())
	slices.Sort(want)
	if got := listed(t, b, "images/"); !slices.Equal(got, want) {
		t.Errorf("%d of %d listed", len(got), count)
	}
	if got := listed(t, b, ""); len(got) != count+1 {
		t.Errorf("%d of %d listed", len(got), count+1)
	}
}

func badNames(t *testing.T, b bucket.Bucket) {
	Put(t, b, "images/web", "w")
	for _, name := range []string{
		"", ".", "..", "../x", "images/../../x", "/etc/passwd", "images//web", "images/", ".tmp", ".tmp/lock", "images/.web", "a\\b", "a\x00b", "a\nb", "\xff",
		strings.Repeat("x", 2000),
	} {
		_, _, err := b.Open(t.Context(), name)
		_, putErr := b.Put(t.Context(), name, strings.NewReader("x"), bucket.Condition{})
		for method, err := range map[string]error{"open": err, "put": putErr, "remove": b.Remove(t.Context(), name)} {
			if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, bucket.ErrChanged) || !strings.Contains(err.Error(), "name of an object") {
				t.Errorf("%s %.20q: %v", method, name, err)
			}
		}
	}
	if found, err := b.List(t.Context(), ""); err != nil || len(found) != 1 {
		t.Errorf("list: %v %v", found, err)
	}
}

// troubled is content that does something before it is read behind its half.
type troubled struct {
	*bytes.Reader
	trouble func() error
}

func (c troubled) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > c.Size()/2 {
		if err := c.trouble(); err != nil {
			return 0, err
		}
	}
	return c.Reader.ReadAt(p, off)
}

func cancelled(t *testing.T, b bucket.Bucket) {
	Put(t, b, "index", "old")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	errs := map[string]error{}
	_, _, errs["open"] = b.Open(over, "index")
	_, errs["put"] = b.Put(over, "index", strings.NewReader("new"), bucket.Condition{})
	_, errs["put absent"] = b.Put(over, "new", strings.NewReader("new"), bucket.Condition{Absent: true})
	_, errs["list"] = b.List(over, "")
	errs["remove"] = b.Remove(over, "index")
	for _, size := range []int{1 << 16, Large} {
		ctx, cancel := context.WithCancel(t.Context())
		content := troubled{bytes.NewReader(Bytes(size, 1)), func() error { cancel(); return nil }}
		_, errs[fmt.Sprint("put of ", size)] = b.Put(ctx, "index", content, bucket.Condition{})
	}
	for what, err := range errs {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if text, _ := Get(t, b, "index"); text != "old" {
		t.Errorf("%d bytes are there", len(text))
	}
	if found, err := b.List(t.Context(), ""); err != nil || len(found) != 1 {
		t.Errorf("list: %v %v", found, err)
	}
	// What is open ends with its context, or goes on; it does not end early.
	large := Bytes(Large, 1)
	Put(t, b, "images/web", string(large))
	ctx, cancel := context.WithCancel(t.Context())
	r, _, err := b.Open(ctx, "images/web")
	peer.Must(t, err)
	cancel()
	if got, err := io.ReadAll(r); err == nil && !bytes.Equal(got, large) {
		t.Errorf("%d bytes, and no error", len(got))
	}
	peer.Must(t, r.Close())
}

// short is content that says more than it has.
type short struct{ *bytes.Reader }

func (c short) Size() int64 { return c.Reader.Size() + 1 }

func failing(t *testing.T, b bucket.Bucket) {
	broken := errors.New("the disk is broken")
	Put(t, b, "index", "old")
	for _, size := range []int{0, 1, 1 << 16, Large} {
		for _, name := range []string{"index", "images/web"} {
			if _, err := b.Put(t.Context(), name, short{bytes.NewReader(Bytes(size, 1))}, bucket.Condition{}); err == nil {
				t.Errorf("one byte more than %d was put", size)
			}
			if size == 0 {
				continue
			}
			content := troubled{bytes.NewReader(Bytes(size, 1)), func() error { return broken }}
			if _, err := b.Put(t.Context(), name, content, bucket.Condition{}); !errors.Is(err, broken) {
				t.Errorf("half of %d bytes: %v", size, err)
			}
		}
	}
	if text, _ := Get(t, b, "index"); text != "old" {
		t.Errorf("%d bytes are there", len(text))
	}
	checkAbsent(t, b, "images/web")
}
