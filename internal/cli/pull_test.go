package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
	"herdbook/internal/signed"
)

// manyImages is an index with what is hard to list.
const manyImages = `[web]
name=Web server
osinfo=debian12
arch=x86_64
file=web.xz
checksum[sha512]=00
revision=2
format=raw
size=6442450944
compressed_size=3891290
expand=/dev/sda1
notes=A "note" <with>
 
 & two paragraphs
notes[de]=Eine
aliases=web-stable web-r2

[hid]
file=h.xz
arch=i686
size=100
hidden=true

[a-name-that-is-longer-than-the-column]
name=Ümlaut
file=h.qcow2
arch=x86_64
size=1023
compressed_size=1024

[no-name]
file=h.qcow2
arch=aarch64
size=1048576
compressed_size=1125899906842624

[two]
file=a
arch=x86_64
size=1

[two]
file=b
arch=aarch64
revision=7
size=1
`

// farm is a directory with a signed repository, and an environment for both programs.
type farm struct {
	dir, fingerprint string
	env              map[string]string
}

func newFarm(t *testing.T, index string) farm {
	t.Helper()
	f := farm{dir: t.TempDir()}
	secret, err := signed.NewKey("farm", time.Now().Add(-time.Hour))
	peer.Must(t, err)
	signer, err := signed.NewSigner(secret, time.Now())
	peer.Must(t, err)
	message, err := signer.Sign([]byte(index), time.Now().Add(-time.Minute))
	peer.Must(t, err)
	key, err := signer.PublicKey()
	peer.Must(t, err)
	home := t.TempDir()
	f.fingerprint = signer.Fingerprint()
	f.env = map[string]string{
		"HOME": home, "GNUPGHOME": filepath.Join(home, "g"), "XDG_CONFIG_HOME": filepath.Join(home, "config"), "XDG_CACHE_HOME": filepath.Join(home, "cache"),
		"VIRT_BUILDER_DIRS": filepath.Join(home, "none"), "LC_ALL": "C", "LIBGUESTFS_BACKEND": "direct", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
	}
	conf := filepath.Join(home, "config", "virt-builder", "repos.d")
	peer.Must(t, os.MkdirAll(conf, 0o755))
	peer.Must(t, os.Mkdir(f.env["GNUPGHOME"], 0o700))
	for path, text := range map[string][]byte{
		filepath.Join(f.dir, "index.asc"): message, filepath.Join(f.dir, "key.asc"): key,
		filepath.Join(conf, "farm.conf"): fmt.Appendf(nil, "[farm]\nuri=file://%s/index.asc\ngpgkey=file://%s/key.asc\n", f.dir, f.dir),
	} {
		peer.Must(t, os.WriteFile(path, text, 0o644))
	}
	return f
}

// virtBuilder runs virt-builder in the farm's environment.
func (f farm) virtBuilder(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.Command("virt-builder", args...)
	for name, value := range f.env {
		c.Env = append(c.Env, name+"="+value)
	}
	out, err := c.Output() // gpg chats on the other
	if err != nil {
		t.Fatalf("virt-builder %q: %v", args, err)
	}
	return string(out)
}

// herdbook runs herdbook in the farm's environment.
func (f farm) herdbook(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	status := Main(context.Background(), World{
		Args: args, Stdout: &out, Stderr: &errs, Now: time.Now,
		LookupEnv: func(name string) (string, bool) { value, ok := f.env[name]; return value, ok },
	})
	if status != 0 {
		t.Fatalf("herdbook %q: status %d\n%s", args, status, &errs)
	}
	return out.String()
}

func TestListIsThatOfVirtBuilder(t *testing.T) {
	peer.NeedTool(t, "virt-builder", "gpg")
	f := newFarm(t, manyImages)
	source := []string{"--source", "file://" + f.dir + "/index.asc", "--fingerprint", f.fingerprint}
	for _, args := range [][]string{
		{"--list"}, {"--list", "--list-format", "short"}, {"--list", "--list-format", "long"}, {"--list", "--list-format", "json"},
		{"--list", "web"}, {"--list", "--list-format", "long", "web-r2"}, {"--list", "--list-format", "json", "web-stable"},
		{"--list", "--list-format", "json", "--arch", "aarch64", "two"}, {"--list", "--list-format", "long", "no-name", "--arch", "aarch64"},
		{"--notes", "web"}, {"--notes", "two"},
	} {
		want := f.virtBuilder(t, args...)
		got := f.herdbook(t, append([]string{"pull"}, args...)...)
		// An empty list has a new line in it there.
		want = strings.ReplaceAll(want, "[\n  ]", "[]")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", args, diff)
		}
	}
	// The key by its fingerprint: there out of the keyring, here from beside the index, too.
	f.virtBuilderImports(t)
	for _, format := range []string{"short", "long", "json"} {
		args := append([]string{"--list", "--list-format", format}, source...)
		got := f.herdbook(t, append([]string{"pull"}, args...)...)
		f.env["XDG_CONFIG_HOME"] = f.env["VIRT_BUILDER_DIRS"] // it reads the others all the same
		want := f.virtBuilder(t, args...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", args, diff)
		}
	}
}

// virtBuilderImports gives the farm's key to the user's gpg.
func (f farm) virtBuilderImports(t *testing.T) {
	t.Helper()
	c := exec.Command("gpg", "--quiet", "--batch", "--import", filepath.Join(f.dir, "key.asc"))
	c.Env = []string{"GNUPGHOME=" + f.env["GNUPGHOME"]}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestLanguages(t *testing.T) {
	for env, want := range map[string][]string{
		"LC_ALL=de_DE.UTF-8":       {"de_DE", "de"},
		"LC_MESSAGES=fr":           {"fr"},
		"LANG=ca_ES@valencia":      {"ca_ES", "ca"},
		"LANG=C.UTF-8":             {"C"},
		"LC_ALL=":                  nil,
		"LC_ALL=pt_BR LC_TIME=xxx": {"pt_BR", "pt"},
	} {
		a := &app{World: World{LookupEnv: func(name string) (string, bool) {
			for _, word := range strings.Fields(env) {
				if value, ok := strings.CutPrefix(word, name+"="); ok {
					return value, true
				}
			}
			return "", false
		}}}
		if got := a.languages(); !slices.Equal(got, want) {
			t.Errorf("%s: %q", env, got)
		}
	}
}
