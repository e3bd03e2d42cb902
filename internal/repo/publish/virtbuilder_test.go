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
	peer.NeedTool(t, "virt-builder", "gpg")
	b := builder{t.TempDir()}
	index := repo.IndexName
	if r.Signer != nil {
		index = repo.SignedIndexName
	}
	conf := fmt.Sprintf("[herd]\nuri=file://%s/%s\n", r.Address, index)
	if r.Signer != nil {
		conf += fmt.Sprintf("gpgkey=file://%s/%s\n", r.Address, repo.KeyName)
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
	bySignature(t, func(t *testing.T, r Repository) {
		publish(t, r, revision(t, "web", "one"))
		publish(t, r, revision(t, "web", "two"))
		next := revision(t, "web", "three")
		next.Channel = "testing"
		testing := publish(t, r, next)
		web := mustFind(t, r, "web")
		db := publish(t, r, revision(t, "db", "four"))
		b := newBuilder(t, r)
		// In the order of the index; what no channel points to is hidden.
		checkList(t, b, r, []repo.Entry{db, testing, web, mustFind(t, r, "web@1")})
		if out := b.must(t, "--notes", "web"); strings.TrimSuffix(out, "\n") != web.Notes {
			t.Errorf("notes: %q", out)
		}
		if out := b.must(t, "--print-cache"); !strings.Contains(out, "web") || strings.Contains(out, "cached\n") {
			t.Errorf("cache: %s", out)
		}
		b.must(t, "--cache-all-templates")
		for _, e := range []repo.Entry{web, db, testing} {
			// As it names them: ID, architecture, revision.
			got, err := os.ReadFile(filepath.Join(b.cache(), "virt-builder", fmt.Sprintf("%s.%s.%d", e.ID, e.Arch, e.Revision)))
			if err != nil || string(got) != contents(t, r.Address)[e.File] {
				t.Errorf("it fetched %d other bytes: %v", len(got), err)
			}
		}
	})
}

func mustFind(t *testing.T, r Repository, name string) repo.Entry {
	t.Helper()
	s, err := repo.ParseSelector(name)
	peer.Must(t, err)
	e, err := mustIndex(t, r).Find(s)
	peer.Must(t, err)
	return e
}

// checkList holds virt-builder's list against entries.
func checkList(t *testing.T, b builder, r Repository, entries []repo.Entry) {
	t.Helper()
	type template struct {
		ID      string            `json:"os-version"`
		Name    string            `json:"full-name"`
		Arch    string            `json:"arch"`
		Size    int64             `json:"size"`
		Packed  string            `json:"compressed-size"`
		Notes   map[string]string `json:"notes"`
		Aliases []string          `json:"aliases"`
		Hidden  bool              `json:"hidden"`
	}
	var got struct{ Templates []template }
	peer.Must(t, json.Unmarshal([]byte(b.must(t, "--list", "--list-format", "json")), &got))
	var want []template
	for _, e := range entries {
		want = append(want, template{e.ID, e.Name, e.Arch, e.Size, fmt.Sprint(e.CompressedSize), map[string]string{"C": e.Notes}, e.Aliases, e.Hidden})
	}
	if diff := cmp.Diff(want, got.Templates); diff != "" {
		t.Error(diff)
	}
	out := b.must(t, "--list")
	for _, e := range entries {
		if strings.Contains(out, e.ID+" ") == e.Hidden {
			t.Errorf("%s is hidden: %v; %s", e.ID, e.Hidden, out)
		}
	}
}

func TestVirtBuilderRefusesAChangedIndex(t *testing.T) {
	r := repository(t)
	publish(t, r, revision(t, "web", "one"))
	b := newBuilder(t, r)
	b.must(t, "--list")
	good := contents(t, r.Address)
	for name, harm := range map[string]func(){
		"a name":       func() { replace(t, r, "Debian 12", "Debian 13") },
		"the file":     func() { replace(t, r, "file=images/web-", "file=images/web-0") },
		"the checksum": func() { replace(t, r, "checksum[sha512]=", "checksum[sha512]=0") },
		"a line more":  func() { replace(t, r, "[web]\n", "[web]\nhidden=true\n") },
		"no signature": func() {
			peer.Must(t, os.WriteFile(filepath.Join(r.Address, repo.SignedIndexName), []byte(good[repo.IndexName]), 0o644))
		},
		"another's key": func() { peer.Must(t, os.WriteFile(filepath.Join(r.Address, repo.KeyName), otherKey(t), 0o644)) },
	} {
		harm()
		for _, mode := range []string{"--list", "--cache-all-templates"} {
			if out, err := b.run(mode); err == nil || !strings.Contains(strings.ToLower(out), "signature") && !strings.Contains(out, "gpg") {
				t.Errorf("%s: virt-builder %s takes it: %s", name, mode, out)
			}
		}
		for name, text := range good {
			peer.Must(t, os.WriteFile(filepath.Join(r.Address, name), []byte(text), 0o644))
		}
		b.must(t, "--list")
	}
}

func otherKey(t *testing.T) []byte {
	t.Helper()
	key, err := newSigner(t).PublicKey()
	peer.Must(t, err)
	return key
}
