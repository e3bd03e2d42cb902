package publish

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/event"
	"herdbook/internal/peer"
	"herdbook/internal/repo"
	"herdbook/internal/signed"
)

var noon = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

func newSigner(t testing.TB) *signed.Signer {
	t.Helper()
	secret, err := signed.NewKey("herdbook images", noon)
	peer.Must(t, err)
	s, err := signed.NewSigner(secret, noon)
	peer.Must(t, err)
	return s
}

// repository is an empty one, with a signature.
func repository(t testing.TB) Repository {
	t.Helper()
	return Repository{Dir: filepath.Join(t.TempDir(), "repo"), Signer: newSigner(t), Now: noon}
}

// image makes a small image: an overlay upon a disk with some text.
func image(t testing.TB, id, content string) Image {
	t.Helper()
	peer.NeedTool(t, "qemu-img")
	dir := t.TempDir()
	raw, base, top := filepath.Join(dir, "raw"), filepath.Join(dir, "base"), filepath.Join(dir, "top")
	peer.Must(t, os.WriteFile(raw, []byte(content), 0o644))
	peer.Must(t, os.Truncate(raw, 1<<20))
	peer.Run(t, "qemu-img", "convert", "-O", "qcow2", raw, base)
	peer.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, top)
	return Image{Disk: top, Entry: repo.Entry{
		ID: id, Name: "Debian 12", OSInfo: "debian12", Arch: "x86_64", Size: 1 << 20, Expand: "/dev/sda1",
		Notes: "First line of " + id + ".\n\n  Third line.", Layer: content,
	}}
}

func publish(t testing.TB, r Repository, i Image) repo.Entry {
	t.Helper()
	e, fresh, err := r.Publish(t.Context(), i, nil)
	peer.Must(t, err)
	if !fresh {
		t.Fatalf("%s was there already", e.File)
	}
	return e
}

// contents are the files of a directory, without the lock.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	peer.Must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir || d.Name() == ".lock" {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if d.IsDir() {
			files[name+"/"] = ""
			return nil
		}
		text, err := os.ReadFile(path)
		files[name] = string(text)
		return err
	}))
	return files
}

func names(files map[string]string) []string { return slices.Sorted(maps.Keys(files)) }

// checkWhole reads a repository as its users do: by both indexes, and every
// image against its checksum.
func checkWhole(t *testing.T, r Repository) []repo.Entry {
	t.Helper()
	files := contents(t, r.Dir)
	var entries []repo.Entry
	for _, name := range []string{repo.SignedIndexName, repo.IndexName} {
		text, ok := files[name]
		if !ok {
			continue
		}
		if name == repo.SignedIndexName {
			keys, err := signed.ReadKeys([]byte(files[repo.KeyName]))
			peer.Must(t, err)
			verified, err := signed.Verify([]byte(text), keys, noon)
			peer.Must(t, err)
			text = string(verified)
		}
		var err error
		entries, err = repo.Parse([]byte(text))
		peer.Must(t, err)
		for _, e := range entries {
			sum := sha512.Sum512([]byte(files[e.File]))
			if e.Checksum != hex.EncodeToString(sum[:]) || e.CompressedSize != int64(len(files[e.File])) {
				t.Errorf("%s names %s with another checksum or size", name, e.File)
			}
		}
	}
	return entries
}

func TestWhatIsPublishedIsTheImage(t *testing.T) {
	for _, isSigned := range []bool{true, false} {
		t.Run(fmt.Sprintf("signed %v", isSigned), func(t *testing.T) {
			r := repository(t)
			want := []string{repo.IndexName, repo.SignedIndexName, repo.KeyName, "web-1.qcow2"}
			if !isSigned {
				r.Signer, want = nil, []string{repo.IndexName, "web-1.qcow2"}
			}
			i := image(t, "web", "one")
			var phases []string
			e, fresh, err := r.Publish(t.Context(), i, func(e event.Event) { phases = append(phases, e.Text) })
			if err != nil || !fresh {
				t.Fatal(fresh, err)
			}
			if diff := cmp.Diff([]string{"compress"}, phases); diff != "" {
				t.Error(diff)
			}
			wanted := i.Entry
			wanted.File, wanted.Format, wanted.Revision = "web-1.qcow2", "qcow2", 1
			wanted.Checksum, wanted.CompressedSize = e.Checksum, e.CompressedSize
			if diff := cmp.Diff(wanted, e); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]repo.Entry{e}, checkWhole(t, r)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(want, names(contents(t, r.Dir))); diff != "" {
				t.Error(diff)
			}
			file := filepath.Join(r.Dir, e.File)
			peer.Run(t, "qemu-img", "compare", i.Disk, file)
			if info := peer.Run(t, "qemu-img", "info", file); strings.Contains(info, "backing file") {
				t.Errorf("it needs another file: %s", info)
			}
			for _, name := range want { // a web server reads them
				stat, err := os.Stat(filepath.Join(r.Dir, name))
				if err != nil || stat.Mode() != 0o644 {
					t.Errorf("%s: %v %v", name, stat.Mode(), err)
				}
			}
		})
	}
}

func TestPublishingALayerAgainWritesNothing(t *testing.T) {
	for _, isSigned := range []bool{true, false} {
		r := repository(t)
		if !isSigned {
			r.Signer = nil
		}
		i := image(t, "web", "one")
		i.Entry.Name += "  " // which a signature does not cover
		first := publish(t, r, i)
		publish(t, r, image(t, "other", "two"))
		first.Name = strings.TrimRight(first.Name, " ")
		before := stamps(t, r.Dir)
		r.Now = noon.Add(time.Hour)
		e, fresh, err := r.Publish(t.Context(), i, func(e event.Event) { t.Errorf("there is nothing to tell: %+v", e) })
		e.Name = strings.TrimRight(e.Name, " ")
		if err != nil || fresh || !cmp.Equal(e, first) {
			t.Errorf("again: %v %v\n%s", fresh, err, cmp.Diff(first, e))
		}
		if diff := cmp.Diff(before, stamps(t, r.Dir)); diff != "" {
			t.Error(diff)
		}
	}
}

// stamps are when the files of a directory were written.
func stamps(t testing.TB, dir string) map[string]time.Time {
	t.Helper()
	at := map[string]time.Time{}
	peer.Must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		at[path] = info.ModTime()
		return err
	}))
	return at
}

func TestANewLayerRaisesTheRevision(t *testing.T) {
	r := repository(t)
	one := publish(t, r, image(t, "web", "one"))
	other := publish(t, r, image(t, "other", "one"))
	two := publish(t, r, image(t, "web", "two"))
	if two.Revision != 2 || two.File != "web-2.qcow2" || two.Checksum == one.Checksum {
		t.Errorf("%+v", two)
	}
	if diff := cmp.Diff([]repo.Entry{two, other}, checkWhole(t, r)); diff != "" {
		t.Error(diff)
	}
	// Who has read the old index still gets the old image.
	if !r.has(one) {
		t.Error("the old revision is gone")
	}
	three := publish(t, r, image(t, "web", "one"))
	if three.Revision != 3 {
		t.Errorf("an old layer as a new revision: %+v", three)
	}
}

func TestALostImageIsPublishedAnew(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"gone":        os.Remove,
		"cut":         func(path string) error { return os.Truncate(path, 100) },
		"a directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) },
	} {
		r := repository(t)
		i := image(t, "web", "one")
		one := publish(t, r, i)
		peer.Must(t, harm(filepath.Join(r.Dir, one.File)))
		if two := publish(t, r, i); two.Revision != 2 {
			t.Errorf("%s: %+v", name, two)
		}
		if entries := checkWhole(t, r); len(entries) != 1 {
			t.Errorf("%s: %+v", name, entries)
		}
	}
}

// rewrite changes an index by hand, and signs it.
func rewrite(t testing.TB, r Repository, change func(string) string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.Dir, repo.IndexName))
	peer.Must(t, err)
	text = []byte(change(string(text)))
	peer.Must(t, os.WriteFile(filepath.Join(r.Dir, repo.IndexName), text, 0o644))
	if r.Signer == nil {
		return
	}
	message, err := r.Signer.Sign(text, r.Now)
	peer.Must(t, err)
	peer.Must(t, os.WriteFile(filepath.Join(r.Dir, repo.SignedIndexName), message, 0o644))
}

func TestWhatWasWrittenByHandStays(t *testing.T) {
	for _, isSigned := range []bool{true, false} {
		r := repository(t)
		if !isSigned {
			r.Signer = nil
		}
		publish(t, r, image(t, "web", "one"))
		rewrite(t, r, func(text string) string {
			return text + "hidden=true\nnotes[de]=Erste Zeile\n \n Dritte\nsig=web.sig\nchecksum=old\nchecksum[sha256]=old\n\n" +
				"[theirs]\narch=x86_64\nfile=theirs.xz\nsize=5\nlvexpand=/dev/vg/root\nnotes=a\n \n b\n"
		})
		publish(t, r, image(t, "other", "three"))
		two := publish(t, r, image(t, "web", "two"))
		// The signature and checksums of the old file are wrong for the new one.
		want := []repo.Field{{Key: "hidden", Value: "true"}, {Key: "notes[de]", Value: "Erste Zeile\n\nDritte"}}
		if diff := cmp.Diff(want, two.Other); diff != "" {
			t.Error(diff)
		}
		entries, err := r.Entries()
		peer.Must(t, err)
		theirs := repo.Entry{
			ID: "theirs", Arch: "x86_64", File: "theirs.xz", Revision: 1, Size: 5, Notes: "a\n\nb",
			Other: []repo.Field{{Key: "lvexpand", Value: "/dev/vg/root"}},
		}
		if len(entries) != 3 || !cmp.Equal(entries[0], two) || !cmp.Equal(entries[1], theirs) {
			t.Errorf("signed %v: %+v", isSigned, entries)
		}
	}
}

func TestImagesOfTwoArchitecturesDoNotMeet(t *testing.T) {
	r := repository(t)
	one := publish(t, r, image(t, "web", "one"))
	arm := image(t, "web", "two")
	arm.Entry.Arch = "aarch64"
	two := publish(t, r, arm)
	if one.File == two.File {
		t.Errorf("both are %s", one.File)
	}
	if entries := checkWhole(t, r); len(entries) != 2 {
		t.Errorf("%+v", entries)
	}
}

// TestACrashBetweenTheWritesIsMended builds the directories that a crash after
// each file leaves. Readers find a whole repository in each, and the next
// publisher makes it what it should have become.
func TestACrashBetweenTheWritesIsMended(t *testing.T) {
	order := []string{"%s", repo.KeyName, repo.SignedIndexName, repo.IndexName}
	for _, first := range []bool{true, false} {
		for written := 0; written <= len(order); written++ {
			r := repository(t)
			before := map[string]string{}
			if !first {
				publish(t, r, image(t, "web", "one"))
				before = contents(t, r.Dir)
			}
			i := image(t, "web", "two")
			want := publish(t, r, i)
			after := contents(t, r.Dir)
			peer.Must(t, os.RemoveAll(r.Dir))
			peer.Must(t, os.MkdirAll(filepath.Join(r.Dir, ".publish"), 0o700))
			peer.Must(t, os.WriteFile(filepath.Join(r.Dir, ".publish", "half.tmp"), nil, 0o600))
			for _, name := range order[:written] {
				name = strings.ReplaceAll(name, "%s", want.File)
				before[name] = after[name]
			}
			for name, text := range before {
				peer.Must(t, os.WriteFile(filepath.Join(r.Dir, name), []byte(text), 0o644))
			}
			checkWhole(t, r)
			e, fresh, err := r.Publish(t.Context(), i, nil)
			if err != nil || fresh != (written < 3) || e.Revision != want.Revision || e.File != want.File {
				t.Errorf("first %v, %d written: %+v %v %v", first, written, e, fresh, err)
			}
			got := contents(t, r.Dir)
			delete(got, ".publish/") // if there was nothing to write
			delete(got, ".publish/half.tmp")
			if diff := cmp.Diff(names(after), names(got)); diff != "" {
				t.Errorf("first %v, %d written: %s", first, written, diff)
			}
			if got[repo.IndexName] != strings.ReplaceAll(after[repo.IndexName], want.Checksum, e.Checksum) || got[repo.KeyName] != after[repo.KeyName] {
				t.Errorf("first %v, %d written:\n%s", first, written, got[repo.IndexName])
			}
			if entries := checkWhole(t, r); len(entries) != 1 {
				t.Errorf("%+v", entries)
			}
		}
	}
}

func TestARepositoryOfAnotherKindIsRefused(t *testing.T) {
	i := image(t, "web", "one")
	for name, c := range map[string]struct {
		change func(t *testing.T, r *Repository)
		want   string
	}{
		"another key": {
			func(t *testing.T, r *Repository) { r.Signer = newSigner(t) },
			"was it signed with another key than this repository's signing_key?",
		},
		"signed, now without": {
			func(t *testing.T, r *Repository) { r.Signer = nil },
			"it has index.asc; move the directory away, or give the signing_key that made it",
		},
		"signed, without its index": {
			func(t *testing.T, r *Repository) {
				r.Signer = nil
				peer.Must(t, os.Remove(filepath.Join(r.Dir, repo.IndexName)))
			},
			"it has index.asc",
		},
		"unsigned, now with": {
			func(t *testing.T, r *Repository) {
				peer.Must(t, os.Remove(filepath.Join(r.Dir, repo.SignedIndexName)))
			},
			"it has index but no index.asc",
		},
		"changed": {
			func(t *testing.T, r *Repository) { change(t, *r, repo.SignedIndexName, "web-1", "web-9") },
			"bad signature",
		},
		"added to": {
			func(t *testing.T, r *Repository) {
				change(t, *r, repo.SignedIndexName, "-----BEGIN PGP SIGNED", "#\n-----BEGIN PGP SIGNED")
			},
			"text outside the signature",
		},
		"unsigned in the signed one's place": {
			func(t *testing.T, r *Repository) {
				peer.Must(t, os.Rename(filepath.Join(r.Dir, repo.IndexName), filepath.Join(r.Dir, repo.SignedIndexName)))
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
			publish(t, r, i)
			c.change(t, &r)
			before := contents(t, r.Dir)
			for _, i := range []Image{i, image(t, "web", "two"), image(t, "other", "one")} {
				_, fresh, err := r.Publish(t.Context(), i, nil)
				if err == nil || fresh || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), r.Dir) {
					t.Errorf("%v %v", fresh, err)
				}
			}
			if diff := cmp.Diff(before, contents(t, r.Dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// change replaces a text in a file of a repository.
func change(t testing.TB, r Repository, name, old, new string) {
	t.Helper()
	path := filepath.Join(r.Dir, name)
	text, err := os.ReadFile(path)
	peer.Must(t, err)
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q", name, old)
	}
	peer.Must(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, new)), 0o644))
}

func TestUnfitImagesAreRefusedBeforeAnythingIsWritten(t *testing.T) {
	r := repository(t)
	publish(t, r, image(t, "web", "one"))
	before := contents(t, filepath.Dir(r.Dir))
	for _, change := range []func(*Image){
		func(i *Image) { i.Entry.ID = "" },
		func(i *Image) { i.Entry.ID = "a b" },
		func(i *Image) { i.Entry.ID = "a/b" },
		func(i *Image) { i.Entry.ID = "../evil" },
		func(i *Image) { i.Entry.ID = "x]\n[y" },
		func(i *Image) { i.Entry.Arch = "" },
		func(i *Image) { i.Entry.Size = -1 },
		func(i *Image) { i.Disk += "-missing" },
		func(i *Image) { peer.Must(t, os.WriteFile(i.Disk, []byte("no image"), 0o644)) },
	} {
		i := image(t, "new", "two")
		change(&i)
		if _, fresh, err := r.Publish(t.Context(), i, nil); err == nil || fresh {
			t.Errorf("%+v: %v", i.Entry, fresh)
		}
		if diff := cmp.Diff(before, contents(t, filepath.Dir(r.Dir))); diff != "" {
			t.Error(diff)
		}
	}
}

func TestCancellingLeavesNothing(t *testing.T) {
	r := repository(t)
	publish(t, r, image(t, "web", "one"))
	before := contents(t, r.Dir)
	i := image(t, "web", "two")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// As the image is being written, and before anything is done.
	for _, when := range []string{"during", "before"} {
		_, fresh, err := r.Publish(ctx, i, func(event.Event) { cancel() })
		if !errors.Is(err, context.Canceled) || fresh {
			t.Errorf("%s: %v %v", when, fresh, err)
		}
		if diff := cmp.Diff(before, contents(t, r.Dir)); diff != "" {
			t.Error(when, diff)
		}
	}
	if e := publish(t, r, i); e.Revision != 2 {
		t.Errorf("afterwards: %+v", e)
	}
}

func TestPublishersTakeTurns(t *testing.T) {
	r := repository(t)
	var images []Image
	for i := range 8 { // each twice
		images = append(images, image(t, fmt.Sprintf("image-%d", i/2), "x"))
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for _, i := range images {
		group.Go(func() {
			_, fresh, err := r.Publish(t.Context(), i, nil)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if fresh {
				made++
			}
		})
	}
	group.Wait()
	entries := checkWhole(t, r)
	if len(entries) != 4 || made != 4 {
		t.Errorf("%d entries, %d were made", len(entries), made)
	}
	for _, e := range entries {
		if e.Revision != 1 {
			t.Errorf("%+v", e)
		}
	}
	if got := names(contents(t, r.Dir)); len(got) != 4+3 {
		t.Errorf("left behind: %v", got)
	}
}

func TestAWaitingPublisherCanBeCancelled(t *testing.T) {
	r := repository(t)
	i, j := image(t, "web", "one"), image(t, "other", "two")
	_, _, err := r.Publish(t.Context(), i, func(event.Event) {
		// The first one holds the lock now.
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, _, err := r.Publish(ctx, j, nil)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait for another publisher") {
			t.Errorf("the second: %v", err)
		}
	})
	peer.Must(t, err)
	if entries := checkWhole(t, r); len(entries) != 1 {
		t.Errorf("%+v", entries)
	}
}
