package streams

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
	"herdbook/internal/repo"
	"herdbook/internal/signed"
)

// builder is a virt-builder that knows one tree of simplestreams.
type builder struct{ home string }

// newBuilder has its signatures checked with a key, if one is given.
func newBuilder(t *testing.T, tree, key string) builder {
	t.Helper()
	peer.NeedTool(t, "virt-builder", "gpg")
	b := builder{t.TempDir()}
	conf := fmt.Sprintf("[herd]\nuri=file://%s\nformat=simplestreams\n", tree)
	if key != "" {
		conf += "gpgkey=file://" + key + "\n"
	}
	write(t, filepath.Join(b.home, "virt-builder", "repos.d", "h.conf"), []byte(conf))
	return b
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	peer.Must(t, os.WriteFile(path, text, 0o644))
}

func (b builder) cache() string { return filepath.Join(b.home, "cache") }

func (b builder) run(args ...string) (string, error) {
	c := exec.Command("virt-builder", args...)
	c.Env = append(os.Environ(), "VIRT_BUILDER_DIRS="+b.home, "XDG_CONFIG_HOME="+b.home, "XDG_CACHE_HOME="+b.cache(), "LC_ALL=C",
		"LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg")
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return out.String() + errs.String(), err
	}
	return out.String(), nil // gpg chats on the other
}

// listed is what virt-builder tells of an image.
type listed struct {
	ID      string   `json:"os-version"`
	Name    string   `json:"full-name"`
	Arch    string   `json:"arch"`
	Size    int64    `json:"size"`
	Aliases []string `json:"aliases"`
}

func (b builder) list(t *testing.T) []listed {
	t.Helper()
	out, err := b.run("--list", "--list-format", "json")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got struct{ Templates []listed }
	peer.Must(t, json.Unmarshal([]byte(out), &got))
	slices.SortFunc(got.Templates, func(a, b listed) int { return strings.Compare(a.ID, b.ID) })
	return got.Templates
}

// tree writes an index, its streams, signed too, and its files, whose digests it
// makes true. It returns the key.
func tree(t *testing.T, dir string, x repo.Index) (key string) {
	t.Helper()
	secret, err := signed.NewKey("herdbook images", noon)
	peer.Must(t, err)
	s, err := signed.NewSigner(secret, noon)
	peer.Must(t, err)
	for i, e := range x.Entries {
		for j, a := range e.Artefacts {
			content := []byte(fmt.Sprintf("%*s", a.Size, a.File))
			write(t, filepath.Join(dir, a.File), content)
			a.Size, a.SHA256, a.SHA512 = int64(len(content)), fmt.Sprintf("%x", sha256.Sum256(content)), fmt.Sprintf("%x", sha512.Sum512(content))
			x.Entries[i].Artefacts[j] = a
		}
	}
	products, err := FormatProducts(x)
	peer.Must(t, err)
	for name, target := range map[string]string{IndexName: ImagesName, SignedIndexName: SignedImagesName} {
		index, err := FormatIndex(x, target)
		peer.Must(t, err)
		text := products
		if name == SignedIndexName {
			index, err = s.Sign(index, noon)
			peer.Must(t, err)
			text, err = s.Sign(products, noon)
			peer.Must(t, err)
		}
		write(t, filepath.Join(dir, name), index)
		write(t, filepath.Join(dir, target), text)
	}
	public, err := s.PublicKey()
	peer.Must(t, err)
	key = filepath.Join(dir, repo.KeyName)
	write(t, key, public)
	return key
}

func TestVirtBuilderReadsOurStreams(t *testing.T) {
	dir := t.TempDir()
	key := tree(t, dir, herd(t))
	for _, key := range []string{key, ""} {
		b := newBuilder(t, dir, key)
		want := []listed{
			{"org.herdbook.testing:web:x86_64", "web-r3", "x86_64", 31, []string{"web-r3"}},
			{"org.herdbook:web:x86_64", "web-r1", "x86_64", 18, []string{"web-r1"}},
		}
		if diff := cmp.Diff(want, b.list(t)); diff != "" {
			t.Error(diff)
		}
		if out, err := b.run("--cache-all-templates"); err != nil {
			t.Error(err, out)
		}
		got, err := os.ReadFile(filepath.Join(b.cache(), "virt-builder", "org.herdbook:web:x86_64.x86_64.20260601120000.000001"))
		if err != nil || strings.TrimSpace(string(got)) != "images/web-1.qcow2" {
			t.Errorf("it fetched %q: %v", got, err)
		}
	}
	signedProducts := filepath.Join(dir, SignedImagesName)
	text, err := os.ReadFile(signedProducts)
	peer.Must(t, err)
	write(t, signedProducts, []byte(strings.Replace(string(text), "web-1.qcow2", "web-3.qcow2", 1)))
	if out, err := newBuilder(t, dir, key).run("--list"); err == nil {
		t.Errorf("virt-builder takes what is not signed: %s", out)
	}
}

// TestVirtBuilderReadsWhatWeRead holds ParseProducts against virt-builder. Sizes are
// those of the files with it, and architectures keep their names.
func TestVirtBuilderReadsWhatWeRead(t *testing.T) {
	for _, name := range []string{"cirros.json", "ubuntu.json"} {
		products, err := os.ReadFile(filepath.Join("testdata", name))
		peer.Must(t, err)
		dir := t.TempDir()
		index, err := FormatIndex(repo.Index{}, ImagesName)
		peer.Must(t, err)
		write(t, filepath.Join(dir, IndexName), index)
		write(t, filepath.Join(dir, ImagesName), products)
		entries, err := ParseProducts(products)
		peer.Must(t, err)
		var ours []listed
		for _, e := range entries {
			ours = append(ours, listed{e.ID, e.Name, e.Arch, e.CompressedSize, e.Aliases})
		}
		theirs := newBuilder(t, dir, "").list(t)
		for i := range theirs {
			theirs[i].Arch = archOf(theirs[i].Arch)
			// It compares 20240423.9 and 20240423.10 as text.
			theirs[i].Name = strings.Replace(theirs[i].Name, "20240423.9", "20240423.10", 1)
			theirs[i].Aliases = []string{theirs[i].Name}
		}
		if diff := cmp.Diff(ours, theirs); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
