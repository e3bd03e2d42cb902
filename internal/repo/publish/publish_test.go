package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/bucket"
	"herdbook/internal/peer"
	"herdbook/internal/repo"
	"herdbook/internal/repo/audit"
	"herdbook/internal/signed"
)

// TestMain keeps the repositories of the tests in memory, which takes no time to sync.
func TestMain(m *testing.M) {
	if stat, err := os.Stat("/dev/shm"); err == nil && stat.IsDir() {
		if err := os.Setenv("TMPDIR", "/dev/shm"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

var noon = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

func newSigner(t testing.TB) *signed.Signer {
	t.Helper()
	secret, err := signed.NewKey("herdbook images", noon)
	peer.Must(t, err)
	s, err := signed.NewSigner(secret, noon)
	peer.Must(t, err)
	return s
}

// repository is an empty one in a directory, with a signature.
func repository(t testing.TB) Repository {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo")
	return Repository{Bucket: bucket.Dir(dir), Address: dir, Signer: newSigner(t), Now: noon, ValidFor: 90 * 24 * time.Hour}
}

// bySignature runs a test with a signed repository and with an unsigned one.
func bySignature(t *testing.T, test func(t *testing.T, r Repository)) {
	for _, isSigned := range []bool{true, false} {
		t.Run(fmt.Sprintf("signed %v", isSigned), func(t *testing.T) {
			r := repository(t)
			if !isSigned {
				r.Signer = nil
			}
			test(t, r)
		})
	}
}

// revision is one whose only file has some content.
func revision(t testing.TB, image, content string) Revision {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	peer.Must(t, os.WriteFile(path, []byte(content), 0o644))
	return Revision{
		Entry: repo.Entry{
			Name: "Debian 12", OSInfo: "debian12", Arch: "x86_64", Size: 1 << 20, Expand: "/dev/sda1",
			Notes: "First line of " + image + ".\n\n  Third line.", Facts: repo.Facts{Image: image, Layer: content},
		},
		Files: []File{{
			Kind: "qcow2", Path: path, Extension: ".qcow2", Size: int64(len(content)),
			SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(content))), SHA512: fmt.Sprintf("%x", sha512.Sum512([]byte(content))),
		}},
		Channel: repo.Stable,
	}
}

func publish(t testing.TB, r Repository, n Revision) repo.Entry {
	t.Helper()
	e, err := r.Publish(t.Context(), n, nil)
	peer.Must(t, err)
	return e
}

// findings are all that is wrong with a repository.
func findings(t testing.TB, r Repository) []audit.Finding {
	t.Helper()
	o := audit.Options{Now: r.Now, Workers: 2}
	if r.Signer != nil {
		o.Keys = r.Signer.Keys()
	}
	report, err := audit.Verify(t.Context(), r.Bucket, o)
	peer.Must(t, err)
	return report.Findings
}

// isWhole holds every byte of a repository against its index.
func isWhole(t testing.TB, r Repository) repo.Index {
	t.Helper()
	if wrong := findings(t, r); len(wrong) > 0 {
		t.Errorf("%+v", wrong)
	}
	x, err := r.Index(t.Context())
	peer.Must(t, err)
	return x
}

// contents are the files of a directory, without those that are no objects.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	peer.Must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil || d.IsDir() && !strings.HasPrefix(d.Name(), "."):
			return err
		case d.IsDir():
			return fs.SkipDir
		}
		name, _ := filepath.Rel(dir, path)
		text, err := os.ReadFile(path)
		files[name] = string(text)
		return err
	}))
	return files
}

func TestWhatIsPublishedIsThere(t *testing.T) {
	bySignature(t, func(t *testing.T, r Repository) {
		n := revision(t, "web", "one")
		e := publish(t, r, n)
		x := isWhole(t, r)
		if diff := cmp.Diff([]repo.Entry{e}, x.Entries); diff != "" {
			t.Error(diff)
		}
		wanted := n.Entry
		wanted.ID, wanted.Revision, wanted.Aliases, wanted.Format = "web", 1, []string{"web-stable", "web-r1"}, "qcow2"
		wanted.File, wanted.Checksum, wanted.CompressedSize = "images/web-"+n.Files[0].SHA512[:12]+".qcow2", n.Files[0].SHA512, 3
		wanted.Facts = repo.Facts{
			Image: "web", Layer: "one", Published: noon, Channels: []string{"stable"}, Released: []repo.Release{{Channel: "stable", Time: noon}},
			Artefacts: []repo.Artefact{{Kind: "qcow2", File: wanted.File, Size: 3, SHA256: n.Files[0].SHA256, SHA512: n.Files[0].SHA512}},
		}
		if diff := cmp.Diff(wanted, e); diff != "" {
			t.Error(diff)
		}
		if x.Version != 1 || !x.Signed.Equal(noon) || !x.Expires.Equal(noon.AddDate(0, 0, 90)) {
			t.Errorf("%+v", x.Header)
		}
		files := contents(t, r.Address)
		if files[e.File] != "one" {
			t.Errorf("%q", files[e.File])
		}
		for name := range files { // a web server reads them
			if stat, err := os.Stat(filepath.Join(r.Address, name)); err != nil || stat.Mode() != 0o644 {
				t.Errorf("%s: %v %v", name, stat.Mode(), err)
			}
		}
	})
}

func TestOldClientsGetWhatTheyKnowFirst(t *testing.T) {
	n := revision(t, "web", "one")
	packed := n.Files[0]
	packed.Kind, packed.Extension = "xz", ".xz"
	n.Files = append(n.Files, packed)
	e := publish(t, repository(t), n)
	if e.Format != "raw" || !strings.HasSuffix(e.File, ".xz") || len(e.Artefacts) != 2 {
		t.Errorf("%+v", e)
	}
	n.Files = []File{{Kind: "kernel", Path: packed.Path}}
	if _, err := repository(t).Publish(t.Context(), n, nil); err == nil || !strings.Contains(err.Error(), "neither a qcow2 nor an xz file") {
		t.Error(err)
	}
}

func TestPublishingALayerAgainWritesNothing(t *testing.T) {
	bySignature(t, func(t *testing.T, r Repository) {
		n := revision(t, "web", "one")
		n.Entry.Name += "  " // which a signature does not cover
		first := publish(t, r, n)
		publish(t, r, revision(t, "other", "two"))
		before := stamps(t, r.Address)
		r.Now = noon.Add(time.Hour)
		e, ok, err := r.Published(t.Context(), n.Entry.Image, n.Entry.Layer, Wanted{"qcow2": ""})
		if err != nil || !ok || !cmp.Equal(e, first) {
			t.Errorf("again: %v %v\n%s", ok, err, cmp.Diff(first, e))
		}
		again := publish(t, r, n)
		promoted, err := r.Promote(t.Context(), repo.Selector{Image: "web"}, repo.Stable)
		if err != nil || !cmp.Equal(again, first) || !cmp.Equal(promoted, first) {
			t.Error(cmp.Diff(first, again), cmp.Diff(first, promoted), err)
		}
		after := stamps(t, r.Address)
		delete(before, filepath.Join(r.Address, first.File)) // put anew, since it could have been damaged
		delete(after, filepath.Join(r.Address, first.File))
		if diff := cmp.Diff(before, after); diff != "" {
			t.Error(diff)
		}
		if _, ok, _ := r.Published(t.Context(), n.Entry.Image, n.Entry.Layer, Wanted{"qcow2": "", "xz": ""}); ok {
			t.Error("it has no file of the kind xz")
		}
	})
}

// stamps are when the objects of a directory were written.
func stamps(t testing.TB, dir string) map[string]time.Time {
	t.Helper()
	at := map[string]time.Time{}
	for name := range contents(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		peer.Must(t, err)
		at[filepath.Join(dir, name)] = info.ModTime()
	}
	return at
}

func TestALayerThatIsThereIsPromotedNotCopied(t *testing.T) {
	r := repository(t)
	n := revision(t, "web", "one")
	n.Channel = "testing"
	one := publish(t, r, n)
	n.Channel = repo.Stable
	again := publish(t, r, n)
	if again.Revision != one.Revision || !again.Has("testing") || !again.Has(repo.Stable) || again.ID != "web" {
		t.Errorf("%+v", again)
	}
	if x := isWhole(t, r); len(x.Entries) != 1 || x.Version != 2 {
		t.Errorf("%+v", x)
	}
}

// withBox is a revision with one more file, a box with some content.
func withBox(t *testing.T, box string) Revision {
	t.Helper()
	n := revision(t, "web", "one")
	file := revision(t, "web", box).Files[0]
	file.Kind, file.Extension, file.Exact = "box.virtualbox", ".box", true
	n.Files = append(n.Files, file)
	return n
}

func TestAnotherBoxOfALayerIsAnotherRevision(t *testing.T) {
	r := repository(t)
	first := publish(t, r, withBox(t, "1 processor"))
	second := publish(t, r, withBox(t, "2 processors"))
	if second.Revision != 2 || second.File != first.File || !second.Has(repo.Stable) {
		t.Errorf("%+v", second)
	}
	for want, content := range map[int]string{1: "1 processor", 2: "2 processors"} {
		n := withBox(t, content)
		e, ok, err := r.Published(t.Context(), "web", "one", Wanted{"qcow2": "", "box.virtualbox": n.Files[1].SHA256})
		if err != nil || !ok || e.Revision != want {
			t.Errorf("%s: %+v, %v", content, e, err)
		}
	}
	if again := publish(t, r, withBox(t, "2 processors")); again.Revision != 2 {
		t.Errorf("%+v", again)
	}
	if _, ok, _ := r.Published(t.Context(), "web", "one", Wanted{"box.virtualbox": strings.Repeat("0", 64)}); ok {
		t.Error("a box was found that was never published")
	}
	if x := isWhole(t, r); len(x.Entries) != 2 {
		t.Errorf("%+v", x)
	}
}

func TestALostFileIsPublishedAnew(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"gone":        os.Remove,
		"cut":         func(path string) error { return os.Truncate(path, 1) },
		"a directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) },
	} {
		r := repository(t)
		n := revision(t, "web", "one")
		one := publish(t, r, n)
		peer.Must(t, harm(filepath.Join(r.Address, one.File)))
		if _, ok, err := r.Published(t.Context(), n.Entry.Image, n.Entry.Layer, nil); ok || err != nil {
			t.Errorf("%s: it is there: %v", name, err)
		}
		two, err := r.Publish(t.Context(), n, nil)
		if name == "a directory" {
			if err == nil {
				t.Error("a directory was replaced")
			}
			continue
		}
		// The same bytes have the same name, so the old revision is whole again.
		if err != nil || two.Revision != 1 {
			t.Errorf("%s: %+v %v", name, two, err)
		}
		isWhole(t, r)
	}
}

// rewrite changes an index by hand, and signs it.
func rewrite(t testing.TB, r Repository, change func(string) string) {
	t.Helper()
	s, err := r.load(t.Context())
	peer.Must(t, err)
	text := []byte(change(string(repo.Format(s.index))))
	if r.Signer != nil {
		text, err = r.Signer.Sign(text, r.Now)
		peer.Must(t, err)
	}
	peer.Must(t, os.WriteFile(filepath.Join(r.Address, r.truth()), text, 0o644))
}

func TestWhatWasWrittenByHandStays(t *testing.T) {
	bySignature(t, func(t *testing.T, r Repository) {
		publish(t, r, revision(t, "web", "one"))
		peer.Must(t, os.WriteFile(filepath.Join(r.Address, "theirs.xz"), []byte("hello"), 0o644))
		rewrite(t, r, func(text string) string {
			text = strings.Replace(text, "aliases=", "notes[de]=Erste Zeile\n \n Dritte\naliases=www ", 1)
			return text + "\n[theirs]\narch=x86_64\nfile=theirs.xz\nsize=5\nlvexpand=/dev/vg/root\nnotes=a\n \n b\n"
		})
		publish(t, r, revision(t, "other", "three"))
		two := publish(t, r, revision(t, "web", "two"))
		if !slices.Contains(two.Aliases, "www") {
			t.Errorf("%+v", two)
		}
		x := isWhole(t, r)
		theirs := repo.Entry{ID: "theirs", Arch: "x86_64", File: "theirs.xz", Revision: 1, Size: 5, LVExpand: "/dev/vg/root", Notes: "a\n\nb"}
		if e, err := x.Find(repo.Selector{Image: "theirs"}); err != nil || !cmp.Equal(e, theirs) {
			t.Error(err, cmp.Diff(theirs, e))
		}
		one, err := x.Find(repo.Selector{Image: "web", Revision: 1})
		if err != nil || !cmp.Equal(one.Other, []repo.Field{{Key: "notes[de]", Value: "Erste Zeile\n\nDritte"}}) {
			t.Errorf("%+v %v", one.Other, err)
		}
	})
}

func TestAnIndexIsRenewedInTime(t *testing.T) {
	bySignature(t, func(t *testing.T, r Repository) {
		r.ValidFor = 10 * time.Hour
		n := revision(t, "web", "one")
		publish(t, r, n)
		for _, c := range []struct {
			hours   int
			version int
		}{{4, 1}, {6, 2}, {10, 2}, {12, 3}, {50, 4}} {
			r.Now = noon.Add(time.Duration(c.hours) * time.Hour)
			_, err := r.Promote(t.Context(), repo.Selector{Image: "web"}, repo.Stable)
			peer.Must(t, err)
			if x := isWhole(t, r); x.Version != c.version || !x.Expires.After(r.Now) {
				t.Errorf("after %d hours: %+v", c.hours, x.Header)
			}
		}
		r.ValidFor = 0
		x, err := r.Renew(t.Context())
		if err != nil || x.Version != 5 || !x.Expires.IsZero() {
			t.Errorf("%+v %v", x.Header, err)
		}
		isWhole(t, r)
	})
	if _, err := repository(t).Renew(t.Context()); err == nil {
		t.Error("an empty repository was renewed")
	}
}

func TestPruneRemovesWhatNothingPointsTo(t *testing.T) {
	r := repository(t)
	var all []repo.Entry
	for _, content := range []string{"one", "two", "three", "four"} {
		all = append(all, publish(t, r, revision(t, "web", content)))
	}
	_, err := r.Promote(t.Context(), repo.Selector{Image: "web", Revision: 2}, "testing")
	peer.Must(t, err)
	old, young := filepath.Join(r.Address, "images/web-0123456789ab.qcow2"), filepath.Join(r.Address, "images/web-ba9876543210.qcow2")
	for path, at := range map[string]time.Time{old: noon.Add(-48 * time.Hour), young: noon.Add(-time.Hour)} {
		peer.Must(t, os.WriteFile(path, []byte("left"), 0o644))
		peer.Must(t, os.Chtimes(path, at, at))
	}
	theirs := filepath.Join(r.Address, "images/web.xz.sig")
	peer.Must(t, os.WriteFile(theirs, nil, 0o644))
	peer.Must(t, os.Chtimes(theirs, noon.Add(-48*time.Hour), noon.Add(-48*time.Hour)))
	before := contents(t, r.Address)
	dry, err := r.Prune(t.Context(), repo.Policy{Keep: 1}, true)
	peer.Must(t, err)
	if diff := cmp.Diff(before, contents(t, r.Address)); diff != "" {
		t.Error("a dry run wrote:", diff)
	}
	done, err := r.Prune(t.Context(), repo.Policy{Keep: 1}, false)
	peer.Must(t, err)
	if diff := cmp.Diff(dry, done); diff != "" {
		t.Error(diff)
	}
	wanted := []string{all[0].File, all[2].File, "images/web-0123456789ab.qcow2"}
	slices.Sort(wanted)
	if !cmp.Equal(wanted, done.Files) || len(done.Revisions) != 2 || done.Freed != int64(len("one")+len("three")+len("left")) {
		t.Errorf("%+v", done)
	}
	peer.Must(t, errors.Join(os.Remove(young), os.Remove(theirs)))
	isWhole(t, r)
}

// An index of which nothing can be derived is not written: every later command would
// fail on it.
func TestAnIndexThatNoDoorCanBeMadeOfIsNotWritten(t *testing.T) {
	r := repository(t)
	r.Signer = nil
	peer.Must(t, os.MkdirAll(r.Address, 0o755))
	text := "[web]\narch=x86_64\nfile=web\nchecksum[sha512]=none\n"
	peer.Must(t, os.WriteFile(filepath.Join(r.Address, repo.IndexName), []byte(text), 0o644))
	before := contents(t, r.Address)
	_, promoted := r.Promote(t.Context(), repo.Selector{Image: "web"}, "testing")
	_, renewed := r.Renew(t.Context())
	for _, err := range []error{promoted, renewed} {
		if err == nil || !strings.Contains(err.Error(), `make index: derive files from the index: web: "none" is no checksum`) {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(before, contents(t, r.Address)); diff != "" {
		t.Error(diff)
	}
}

// A place without an index is a wrong one, or the index was lost: what is there stays.
func TestPruneRemovesNothingWithoutAnIndex(t *testing.T) {
	bySignature(t, func(t *testing.T, r Repository) {
		publish(t, r, revision(t, "web", "one"))
		for _, name := range []string{repo.IndexName, repo.SignedIndexName} {
			peer.Must(t, r.Bucket.Remove(t.Context(), name))
		}
		r.Now = noon.AddDate(10, 0, 0)
		before := contents(t, r.Address)
		if _, err := r.Prune(t.Context(), repo.Policy{Keep: 1}, false); err == nil || !strings.Contains(err.Error(), "there is no index") {
			t.Error(err)
		}
		if diff := cmp.Diff(before, contents(t, r.Address)); diff != "" {
			t.Error(diff)
		}
	})
}

// meanwhile is a bucket in which others do something right before a file of an image
// is put.
type meanwhile struct {
	bucket.Bucket
	others func()
}

func (m *meanwhile) Put(ctx context.Context, name string, c bucket.Content, condition bucket.Condition) (bucket.Object, error) {
	if others := m.others; others != nil && strings.HasPrefix(name, repo.ImageDir+"/") {
		m.others = nil
		others()
	}
	return m.Bucket.Put(ctx, name, c, condition)
}

// A file that is not sent, since the index names it, may be gone until the entry is
// written.
func TestWhatAPruneGivesUpDuringAPublishIsPutAgain(t *testing.T) {
	r := repository(t)
	one, two, three := revision(t, "web", "one"), revision(t, "web", "two"), revision(t, "web", "three")
	publish(t, r, one)
	publish(t, r, two)
	n := three
	n.Files = append(slices.Clone(three.Files), one.Files[0])
	n.Files[1].Kind = "xz"
	pruned := false
	during := r
	during.Bucket = &meanwhile{r.Bucket, func() {
		done, err := r.Prune(t.Context(), repo.Policy{Keep: 1}, false)
		peer.Must(t, err)
		pruned = len(done.Files) == 1
	}}
	publish(t, during, n)
	if !pruned {
		t.Error("nothing was pruned meanwhile")
	}
	isWhole(t, r)
}

// The other way round: what is published again while a prune goes on stays.
func TestWhatIsPublishedDuringAPruneStays(t *testing.T) {
	r := repository(t)
	one := revision(t, "web", "one")
	publish(t, r, one)
	publish(t, r, revision(t, "web", "two"))
	again := one
	again.Entry.Layer = "one again"
	during := r
	during.Bucket = &afterIndex{r.Bucket, func() { publish(t, r, again) }}
	done, err := during.Prune(t.Context(), repo.Policy{Keep: 1}, false)
	peer.Must(t, err)
	if len(done.Revisions) != 1 || len(done.Files) != 0 {
		t.Errorf("%+v", done)
	}
	isWhole(t, r)
}

// afterIndex is a bucket in which others do something once the index was put.
type afterIndex struct {
	bucket.Bucket
	others func()
}

func (a *afterIndex) Put(ctx context.Context, name string, c bucket.Content, condition bucket.Condition) (bucket.Object, error) {
	o, err := a.Bucket.Put(ctx, name, c, condition)
	if others := a.others; others != nil && name == repo.SignedIndexName {
		a.others = nil
		others()
	}
	return o, err
}

// spoilt is a bucket in which the index is replaced while it is read, so many times.
type spoilt struct {
	bucket.Bucket
	times int
}

func (s *spoilt) Open(ctx context.Context, name string) (io.ReadCloser, bucket.Object, error) {
	if s.times--; s.times >= 0 && name == repo.SignedIndexName {
		return nil, bucket.Object{}, fmt.Errorf("open it: %w, while it was read", bucket.ErrChanged)
	}
	return s.Bucket.Open(ctx, name)
}

func TestAnIndexThatIsReplacedWhileItIsReadIsReadAgain(t *testing.T) {
	r := repository(t)
	publish(t, r, revision(t, "web", "one"))
	plain := r.Bucket
	r.Bucket = &spoilt{plain, 3}
	_, err := r.Promote(t.Context(), repo.Selector{Image: "web"}, "testing")
	peer.Must(t, err)
}

func TestRenewingAtOnceIsNoFault(t *testing.T) {
	r := repository(t)
	publish(t, r, revision(t, "web", "one"))
	during := r
	others := func() {
		_, err := r.Renew(t.Context())
		peer.Must(t, err)
	}
	during.Bucket = &beforeIndex{r.Bucket, others}
	x, err := during.Renew(t.Context())
	if err != nil || x.Version != 2 {
		t.Errorf("version %d: %v", x.Version, err)
	}
	isWhole(t, r)
}

// beforeIndex is a bucket in which others do something before the index is put.
type beforeIndex afterIndex

func (b *beforeIndex) Put(ctx context.Context, name string, c bucket.Content, condition bucket.Condition) (bucket.Object, error) {
	if others := b.others; others != nil && name == repo.SignedIndexName {
		b.others = nil
		others()
	}
	return b.Bucket.Put(ctx, name, c, condition)
}

// Who has only the public key must not put an index there that nobody signed.
func TestWithoutTheSigningKeyNothingIsWritten(t *testing.T) {
	r := repository(t)
	publish(t, r, revision(t, "web", "one"))
	before := contents(t, r.Address)
	r.Keys, r.Signer = r.Signer.Keys(), nil
	r.Now = noon.AddDate(1, 0, 0)
	_, renewed := r.Renew(t.Context())
	_, promoted := r.Promote(t.Context(), repo.Selector{Image: "web"}, "testing")
	_, pruned := r.Prune(t.Context(), repo.Policy{Keep: 1}, false)
	for _, err := range []error{renewed, promoted, pruned} {
		if err == nil || !strings.Contains(err.Error(), "there is no key to sign with") {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(before, contents(t, r.Address)); diff != "" {
		t.Error(diff)
	}
}

// A clock that goes back makes no index that is older than the one before.
func TestAnIndexIsNeverOlderThanTheOneBefore(t *testing.T) {
	r := repository(t)
	later := noon.Add(time.Hour)
	r.Now = later
	publish(t, r, revision(t, "web", "one"))
	r.Now = noon
	publish(t, r, revision(t, "web", "two"))
	r.Now = later
	if x := isWhole(t, r); x.Version != 2 || !x.Signed.Equal(later) {
		t.Errorf("%+v", x.Header)
	}
}

func TestARepositoryOfAnotherKindIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, r *Repository)
		want   string
	}{
		"another key": {
			func(t *testing.T, r *Repository) { r.Signer = newSigner(t) },
			"was it signed with another key than this repository's?",
		},
		"signed, now without": {
			func(_ *testing.T, r *Repository) { r.Signer = nil },
			"it has index.asc where none is wanted; use an empty place, or give the key that made it",
		},
		"unsigned, now with": {
			func(t *testing.T, r *Repository) {
				peer.Must(t, os.Remove(filepath.Join(r.Address, repo.SignedIndexName)))
			},
			"it has index but no index.asc",
		},
		"changed": {
			func(t *testing.T, r *Repository) { replace(t, *r, "web", "wab") },
			"bad signature",
		},
		"added to": {
			func(t *testing.T, r *Repository) { replace(t, *r, "-----BEGIN PGP SIGNED", "#\n-----BEGIN PGP SIGNED") },
			"text outside the signature",
		},
		"unsigned in the signed one's place": {
			func(t *testing.T, r *Repository) {
				peer.Must(t, os.Rename(filepath.Join(r.Address, repo.IndexName), filepath.Join(r.Address, repo.SignedIndexName)))
			},
			"not a clear-signed text",
		},
		"no index": {
			func(t *testing.T, r *Repository) {
				rewrite(t, *r, func(string) string { return "[web]\narch=x86_64\nfile=../x\n" })
			},
			`file: "../x" does not stay below the index`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := repository(t)
			publish(t, r, revision(t, "web", "one"))
			c.change(t, &r)
			before := contents(t, r.Address)
			for _, n := range []Revision{revision(t, "web", "one"), revision(t, "web", "two"), revision(t, "other", "one")} {
				_, err := r.Publish(t.Context(), n, nil)
				_, _, other := r.Published(t.Context(), n.Entry.Image, n.Entry.Layer, nil)
				for _, err := range []error{err, other} {
					if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), r.Address) {
						t.Errorf("%v", err)
					}
				}
			}
			if diff := cmp.Diff(before, contents(t, r.Address)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// replace replaces a text in the index.
func replace(t testing.TB, r Repository, old, new string) {
	t.Helper()
	path := filepath.Join(r.Address, r.truth())
	text, err := os.ReadFile(path)
	peer.Must(t, err)
	if !bytes.Contains(text, []byte(old)) {
		t.Fatalf("there is no %q", old)
	}
	peer.Must(t, os.WriteFile(path, bytes.ReplaceAll(text, []byte(old), []byte(new)), 0o644))
}

func TestUnfitImagesAreRefusedBeforeAnythingIsWritten(t *testing.T) {
	r := repository(t)
	publish(t, r, revision(t, "web", "one"))
	before := contents(t, filepath.Dir(r.Address))
	for _, change := range []func(*Revision){
		func(n *Revision) { n.Entry.Image = "" },
		func(n *Revision) { n.Entry.Image = "a b" },
		func(n *Revision) { n.Entry.Image = "a/b" },
		func(n *Revision) { n.Entry.Image = "../evil" },
		func(n *Revision) { n.Entry.Image = "x]\n[y" },
		func(n *Revision) { n.Entry.Image = "web-stable" },
		func(n *Revision) { n.Entry.Arch = "" },
		func(n *Revision) { n.Entry.Size = -1 },
		func(n *Revision) { n.Channel = "a b" },
		func(n *Revision) { n.Files[0].Path += "-missing" },
		func(n *Revision) { n.Files[0].SHA512 = "../../../evil" },
	} {
		n := revision(t, "new", "two")
		change(&n)
		if _, err := r.Publish(t.Context(), n, nil); err == nil {
			t.Errorf("%+v", n)
		}
		if diff := cmp.Diff(before, contents(t, filepath.Dir(r.Address))); diff != "" {
			t.Error(diff)
		}
	}
}

func TestACancelledPublishLeavesNothing(t *testing.T) {
	r := repository(t)
	publish(t, r, revision(t, "web", "one"))
	before := contents(t, r.Address)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Publish(ctx, revision(t, "web", "two"), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if diff := cmp.Diff(before, contents(t, r.Address)); diff != "" {
		t.Error(diff)
	}
}

func TestPublishersAtOnceLoseNothing(t *testing.T) {
	bySignature(t, func(t *testing.T, r Repository) {
		var group sync.WaitGroup
		for i := range 16 { // four images, each with two layers, each twice
			n := revision(t, fmt.Sprintf("image%d", i%4), fmt.Sprintf("layer %d", i/4%2))
			n.Channel = []string{repo.Stable, "testing"}[i/8]
			group.Go(func() {
				if _, err := r.Publish(t.Context(), n, nil); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		x := isWhole(t, r)
		var got []string
		for _, e := range x.Entries {
			got = append(got, fmt.Sprintf("%s@%d", e.Image, e.Revision))
		}
		wanted := []string{"image0@2", "image0@1", "image1@2", "image1@1", "image2@2", "image2@1", "image3@2", "image3@1"}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Error(diff)
		}
		for _, image := range x.Images() {
			for _, channel := range []string{repo.Stable, "testing"} {
				if _, err := x.Find(repo.Selector{Image: image, Channel: channel}); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
