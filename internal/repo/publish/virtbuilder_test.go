package publish

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
	"herdbook/internal/repo"
)

// builder is a virt-builder that knows one repository.
type builder struct{ home string }

func newBuilder(t *testing.T, r Repository) builder {
	t.Helper()
	peer.NeedTool(t, "virt-builder", "gpg", "qemu-img")
	b := builder{t.TempDir()}
	index := repo.IndexName
	if r.Signer != nil {
		index = repo.SignedIndexName
	}
	conf := fmt.Sprintf("[herd]\nuri=file://%s/%s\n", r.Dir, index)
	if r.Signer != nil {
		conf += fmt.Sprintf("gpgkey=file://%s/%s\n", r.Dir, repo.KeyName)
	}
	dir := filepath.Join(b.home, "virt-builder", "repos.d")
	peer.Must(t, os.MkdirAll(dir, 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(dir, "h.conf"), []byte(conf), 0o644))
	return b
}

// run returns what virt-builder says; with its errors, if it fails.
func (b builder) run(args ...string) (string, error) {
	c := exec.Command("virt-builder", args...)
	c.Env = append(os.Environ(),
		"VIRT_BUILDER_DIRS="+b.home, "XDG_CONFIG_HOME="+b.home, "XDG_CACHE_HOME="+b.cache(), "LC_ALL=C",
		"LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg")
	var out, errs strings.Builder
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return out.String() + errs.String(), err
	}
	return out.String(), nil // gpg chats on the other
}

func (b builder) cache() string { return filepath.Join(b.home, "cache") }

func (b builder) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := b.run(args...)
	if err != nil {
		t.Fatalf("virt-builder %v: %v\n%s", args, err, out)
	}
	return out
}

func TestVirtBuilderReadsWhatWePublish(t *testing.T) {
	for _, isSigned := range []bool{true, false} {
		t.Run(fmt.Sprintf("signed %v", isSigned), func(t *testing.T) {
			r := repository(t)
			if !isSigned {
				r.Signer = nil
			}
			publish(t, r, image(t, "web", "one"))
			web := publish(t, r, image(t, "web", "two"))
			db := publish(t, r, image(t, "db", "three"))
			b := newBuilder(t, r)
			checkList(t, b, r, []repo.Entry{web, db})
			if out := b.must(t, "--notes", "web"); strings.TrimSuffix(out, "\n") != web.Notes {
				t.Errorf("notes: %q", out)
			}
			if out := b.must(t, "--print-cache"); !strings.Contains(out, "web") || strings.Contains(out, "cached\n") {
				t.Errorf("cache: %s", out)
			}
			b.must(t, "--cache-all-templates")
			for _, e := range []repo.Entry{web, db} {
				// As it names them: ID, architecture, revision.
				got, err := os.ReadFile(filepath.Join(b.cache(), "virt-builder", fmt.Sprintf("%s.%s.%d", e.ID, e.Arch, e.Revision)))
				if err != nil || string(got) != contents(t, r.Dir)[e.File] {
					t.Errorf("it fetched %d other bytes: %v", len(got), err)
				}
			}
		})
	}
}

// checkList holds virt-builder's list against entries.
func checkList(t *testing.T, b builder, r Repository, entries []repo.Entry) {
	t.Helper()
	type template struct {
		ID     string            `json:"os-version"`
		Name   string            `json:"full-name"`
		Arch   string            `json:"arch"`
		Size   int64             `json:"size"`
		Packed string            `json:"compressed-size"`
		Notes  map[string]string `json:"notes"`
	}
	var got struct{ Templates []template }
	peer.Must(t, json.Unmarshal([]byte(b.must(t, "--list", "--list-format", "json")), &got))
	var want []template
	for _, e := range entries {
		want = append(want, template{e.ID, e.Name, e.Arch, e.Size, fmt.Sprint(e.CompressedSize), map[string]string{"C": e.Notes}})
	}
	if diff := cmp.Diff(want, got.Templates); diff != "" {
		t.Error(diff)
	}
	out := b.must(t, "--list")
	for _, e := range entries {
		if !strings.Contains(out, e.ID) {
			t.Errorf("the list has no %s: %s", e.ID, out)
		}
	}
}

func TestVirtBuilderRefusesAChangedIndex(t *testing.T) {
	r := repository(t)
	publish(t, r, image(t, "web", "one"))
	b := newBuilder(t, r)
	b.must(t, "--list")
	good := contents(t, r.Dir)
	for name, harm := range map[string]func(){
		"a name":       func() { change(t, r, repo.SignedIndexName, "Debian 12", "Debian 13") },
		"the file":     func() { change(t, r, repo.SignedIndexName, "file=web-1", "file=web-9") },
		"the checksum": func() { change(t, r, repo.SignedIndexName, "checksum[sha512]=", "checksum[sha512]=0") },
		"a line more":  func() { change(t, r, repo.SignedIndexName, "[web]\n", "[web]\nhidden=true\n") },
		"no signature": func() {
			peer.Must(t, os.WriteFile(filepath.Join(r.Dir, repo.SignedIndexName), []byte(good[repo.IndexName]), 0o644))
		},
		"another's key": func() { change(t, r, repo.KeyName, good[repo.KeyName], otherKey(t)) },
	} {
		harm()
		for _, mode := range []string{"--list", "--cache-all-templates"} {
			if out, err := b.run(mode); err == nil || !strings.Contains(strings.ToLower(out), "signature") && !strings.Contains(out, "gpg") {
				t.Errorf("%s: virt-builder %s takes it: %s", name, mode, out)
			}
		}
		for name, text := range good {
			peer.Must(t, os.WriteFile(filepath.Join(r.Dir, name), []byte(text), 0o644))
		}
		b.must(t, "--list")
	}
}

func otherKey(t *testing.T) string {
	t.Helper()
	key, err := newSigner(t).PublicKey()
	peer.Must(t, err)
	return string(key)
}
