package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"

	"herdbook/internal/bucket"
	"herdbook/internal/event"
	"herdbook/internal/peer"
	"herdbook/internal/repo"
	"herdbook/internal/repo/audit"
	"herdbook/internal/repo/publish"
	"herdbook/internal/signed"
)

var noon = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

func newSigner(t *testing.T) *signed.Signer {
	t.Helper()
	secret, err := signed.NewKey("herdbook images", noon)
	peer.Must(t, err)
	s, err := signed.NewSigner(secret, noon)
	peer.Must(t, err)
	return s
}

// published is a repository of two revisions, the older one in the channel testing.
func published(t *testing.T) publish.Repository {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo")
	r := publish.Repository{Bucket: bucket.Dir(dir), Address: dir, Signer: newSigner(t), Now: noon, ValidFor: 90 * 24 * time.Hour}
	for _, layer := range []string{"one", "two"} {
		path := filepath.Join(t.TempDir(), "disk")
		peer.Must(t, os.WriteFile(path, []byte(layer), 0o644))
		_, err := r.Publish(t.Context(), publish.Revision{
			Entry: repo.Entry{Name: "Debian 12", Arch: "x86_64", Size: 1 << 20, Notes: "a\n\nb", Facts: repo.Facts{Image: "web", Layer: layer}},
			Files: []publish.File{{
				Kind: "qcow2", Path: path, Extension: ".qcow2", Size: int64(len(layer)),
				SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(layer))), SHA512: fmt.Sprintf("%x", sha512.Sum512([]byte(layer))),
			}},
			Channel: repo.Stable,
		}, nil)
		peer.Must(t, err)
	}
	_, err := r.Promote(t.Context(), repo.Selector{Image: "web", Revision: 1}, "testing")
	peer.Must(t, err)
	return r
}

func options(r publish.Repository) audit.Options {
	return audit.Options{Keys: r.Signer.Keys(), Now: r.Now, Workers: 2}
}

func TestAWholeRepositoryHasNoFindings(t *testing.T) {
	r := published(t)
	o := options(r)
	var last event.Event
	o.Sink = func(e event.Event) { last = e }
	report, err := audit.Verify(t.Context(), r.Bucket, o)
	if err != nil || len(report.Findings) > 0 || report.Index.Version != 3 || report.Objects < 5 || report.Bytes < 100 {
		t.Errorf("%+v %v", report, err)
	}
	if last.Kind != event.Progress || last.Done != 6 || last.Total != 6 {
		t.Errorf("%+v", last)
	}
}

// inDir is the path of an object.
func inDir(r publish.Repository, name string) string { return filepath.Join(r.Address, name) }

func edit(t *testing.T, r publish.Repository, name, old, new string) {
	t.Helper()
	text, err := os.ReadFile(inDir(r, name))
	peer.Must(t, err)
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q:\n%s", name, old, text)
	}
	peer.Must(t, os.WriteFile(inDir(r, name), []byte(strings.Replace(string(text), old, new, 1)), 0o644))
}

// resign changes the index and signs it, as somebody with the key could.
func resign(t *testing.T, r publish.Repository, change func(x *repo.Index)) {
	t.Helper()
	x, err := r.Index(t.Context())
	peer.Must(t, err)
	change(&x)
	message, err := r.Signer.Sign(repo.Format(x), noon)
	peer.Must(t, err)
	peer.Must(t, os.WriteFile(inDir(r, repo.SignedIndexName), message, 0o644))
}

// signedTwice gives a clear-signed text its signature a second time.
func signedTwice(t *testing.T, message []byte) []byte {
	t.Helper()
	block, _ := clearsign.Decode(message)
	signature, err := io.ReadAll(block.ArmoredSignature.Body)
	peer.Must(t, err)
	var armour bytes.Buffer
	w, err := armor.Encode(&armour, "PGP SIGNATURE", nil)
	peer.Must(t, err)
	_, err = w.Write(append(signature, signature...))
	peer.Must(t, errors.Join(err, w.Close()))
	text, _, _ := bytes.Cut(message, []byte("-----BEGIN PGP SIGNATURE-----"))
	return append(slices.Clone(text), append(armour.Bytes(), '\n')...)
}

func TestWhateverIsWrongIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(t *testing.T, r publish.Repository, e repo.Entry, o *audit.Options)
		want string // a finding, as KIND NAME: a part of what is said
	}{
		"a byte of a file": {
			func(t *testing.T, r publish.Repository, e repo.Entry, _ *audit.Options) { edit(t, r, e.File, "t", "T") },
			"altered FILE: its SHA-512 is",
		},
		"a file cut": {
			func(t *testing.T, r publish.Repository, e repo.Entry, _ *audit.Options) {
				peer.Must(t, os.Truncate(inDir(r, e.File), 1))
			},
			"altered FILE: it has 1 bytes, the index says 3",
		},
		"a file gone": {
			func(t *testing.T, r publish.Repository, e repo.Entry, _ *audit.Options) {
				peer.Must(t, os.Remove(inDir(r, e.File)))
			},
			"missing FILE: the index names it",
		},
		"a link in its place": {
			func(t *testing.T, r publish.Repository, e repo.Entry, _ *audit.Options) {
				peer.Must(t, os.Remove(inDir(r, e.File)))
				peer.Must(t, os.Symlink("/etc/hostname", inDir(r, e.File)))
			},
			"missing FILE:",
		},
		"a file more": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				peer.Must(t, os.WriteFile(inDir(r, "images/evil"), nil, 0o644))
			},
			"extra images/evil: nothing names it",
		},
		"a word of the index": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				edit(t, r, "index.asc", "Debian 12", "Debian 13")
			},
			"altered index.asc: bad signature",
		},
		"no index": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				peer.Must(t, os.Remove(inDir(r, "index.asc")))
			},
			"missing index.asc: it is not there",
		},
		"the index of old clients": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				edit(t, r, "index", "Debian 12", "Debian 13")
			},
			"altered index: it is not what follows from version 3 of index.asc",
		},
		"the checksums": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				peer.Must(t, os.Remove(inDir(r, "SHA512SUMS")))
			},
			"missing SHA512SUMS: it is not there",
		},
		"the signature of a door": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				edit(t, r, "streams/v1/index.sjson", "-----BEGIN PGP SIGNATURE-----", "x\n-----BEGIN PGP SIGNATURE-----")
			},
			"altered streams/v1/index.sjson: bad signature",
		},
		"the public key": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				key, err := newSigner(t).PublicKey()
				peer.Must(t, err)
				peer.Must(t, os.WriteFile(inDir(r, "key.asc"), key, 0o644))
			},
			"altered key.asc: the key",
		},
		"the public key of another whom we trust, too": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, o *audit.Options) {
				other := newSigner(t)
				key, err := other.PublicKey()
				peer.Must(t, err)
				peer.Must(t, os.WriteFile(inDir(r, "key.asc"), key, 0o644))
				o.Keys = append(o.Keys, other.Keys()...)
			},
			"altered key.asc: readers who take it refuse index.asc: bad signature",
		},
		"no key": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				peer.Must(t, os.WriteFile(inDir(r, "key.asc"), []byte("x"), 0o644))
			},
			"altered key.asc:",
		},
		"a second signature": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				text, err := os.ReadFile(inDir(r, "index.asc"))
				peer.Must(t, err)
				peer.Must(t, os.WriteFile(inDir(r, "index.asc"), signedTwice(t, text), 0o644))
			},
			"altered index.asc: it has 2 signatures where 1 is wanted",
		},
		"signed by somebody else": {
			func(t *testing.T, _ publish.Repository, _ repo.Entry, o *audit.Options) { o.Keys = newSigner(t).Keys() },
			"altered index.asc: bad signature",
		},
		"said to be unsigned": {
			func(_ *testing.T, _ publish.Repository, _ repo.Entry, o *audit.Options) { o.Keys = nil },
			"extra index.asc: the repository is said to have no signature",
		},
		"too old": {
			func(_ *testing.T, _ publish.Repository, _ repo.Entry, o *audit.Options) {
				o.Now = noon.AddDate(0, 0, 90)
			},
			"wrong index.asc: it expired at 2025-08-30T12:00:00Z",
		},
		"an index that leads out": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				resign(t, r, func(x *repo.Index) { x.Entries[0].File = "../evil" })
			},
			`wrong index.asc: read index, [web]: file: "../evil" does not stay below the index`,
		},
		"a channel to two revisions": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				resign(t, r, func(x *repo.Index) { x.Entries[0].Channels = append(x.Entries[0].Channels, "testing") })
			},
			"wrong index.asc: web@1 (x86_64): the channel testing points to another revision, too",
		},
		"a name of another channel": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				resign(t, r, func(x *repo.Index) { x.Entries[0].ID, x.Entries[1].ID = "web-r2", "web" })
			},
			"wrong index.asc: [web-r2]: by its channels it would be [web]",
		},
		"a number twice": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				resign(t, r, func(x *repo.Index) { x.Entries[1].Revision = 2 })
			},
			"wrong index.asc: web@2 (x86_64): there are two revisions of this number",
		},
		"two checksums": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				resign(t, r, func(x *repo.Index) { x.Entries[0].CompressedSize++ })
			},
			"are told in two ways",
		},
		"another SHA-256": {
			func(t *testing.T, r publish.Repository, _ repo.Entry, _ *audit.Options) {
				resign(t, r, func(x *repo.Index) { x.Entries[0].Artefacts[0].SHA256 = strings.Repeat("0", 64) })
			},
			"altered FILE: its SHA-256 is",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := published(t)
			x, err := r.Index(t.Context())
			peer.Must(t, err)
			e, err := x.Find(repo.Selector{Image: "web"})
			peer.Must(t, err)
			o := options(r)
			c.harm(t, r, e, &o)
			report, err := audit.Verify(t.Context(), r.Bucket, o)
			peer.Must(t, err)
			want := strings.ReplaceAll(c.want, "FILE", e.File)
			for _, f := range report.Findings {
				if strings.Contains(fmt.Sprintf("%s %s: %s", f.Kind, f.Name, f.What), want) {
					return
				}
			}
			t.Errorf("want %s, have %+v", want, report.Findings)
		})
	}
}

func TestWhatCannotBeReadIsNoFinding(t *testing.T) {
	r := published(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if report, err := audit.Verify(ctx, r.Bucket, options(r)); !errors.Is(err, context.Canceled) || len(report.Findings) > 0 {
		t.Errorf("%+v %v", report, err)
	}
}
