package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/peer"
	"herdbook/internal/repo"
	"herdbook/internal/source"
)

// gnupg is a keyring of gpg.
type gnupg struct {
	t    *testing.T
	home string
}

func newGnuPG(t *testing.T) gnupg {
	t.Helper()
	peer.NeedTool(t, "gpg")
	home, err := os.MkdirTemp("", "gnupg-") // gpg's sockets want a short name
	peer.Must(t, err)
	t.Cleanup(func() {
		c := exec.Command("gpgconf", "--kill", "all")
		c.Env = []string{"GNUPGHOME=" + home}
		_ = c.Run()
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	return gnupg{t, home}
}

func (g gnupg) run(args ...string) ([]byte, error) {
	c := exec.Command("gpg", append([]string{"--batch", "--quiet", "--yes", "--passphrase", ""}, args...)...)
	c.Env = []string{"GNUPGHOME=" + g.home, "PATH=" + os.Getenv("PATH")}
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("gpg %q: %w: %s", args, err, &said)
	}
	return out.Bytes(), nil
}

func (g gnupg) must(args ...string) []byte {
	g.t.Helper()
	out, err := g.run(args...)
	peer.Must(g.t, err)
	return out
}

// fingerprints are those of a key, and of its subkeys.
func (g gnupg) fingerprints(name string) []string {
	var list []string
	for _, line := range strings.Split(string(g.must("--with-colons", "--list-keys", name)), "\n") {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			list = append(list, f[9])
		}
	}
	return list
}

// Fingerprints are taken as virt-builder takes them, out of the user's keyring.
func TestKeysComeFromGnuPGByTheirFingerprints(t *testing.T) {
	g := newGnuPG(t)
	for _, name := range []string{"farm", "other"} {
		g.must("--quick-gen-key", name, "ed25519", "sign", "never")
	}
	g.must("--quick-add-key", g.fingerprints("farm")[0], "ed25519", "sign", "never")
	all := g.fingerprints("farm")
	if len(all) != 2 {
		t.Fatalf("%q", all)
	}
	f := newFarm(t)
	f.c.Now = time.Now().Add(time.Hour) // gpg signs by its own clock
	t.Setenv("GNUPGHOME", g.home)
	f.c.Export = nil
	x := repo.Index{Entries: []repo.Entry{{ID: "web", Arch: "x86_64", File: "web", Revision: 1}}}
	f.put(repo.IndexName, repo.Format(x))
	g.must("--local-user", all[1]+"!", "--output", filepath.Join(f.dir, repo.SignedIndexName), "--clearsign", filepath.Join(f.dir, repo.IndexName))
	spaced := strings.Join(strings.Split(strings.ToLower(all[0]), ""), " ")
	for _, fingerprint := range []string{all[0], all[1], strings.ToLower(all[0]), spaced, "0x" + all[1]} {
		s := Source{URL: f.url, Fingerprints: []string{fingerprint}}
		if got, err := f.c.Read(context.Background(), s); err != nil || len(got.Index.Entries) != 1 || got.Fingerprints[0] != all[0] {
			t.Errorf("%s: %v", fingerprint, err)
		}
	}
	s := Source{URL: f.url, Fingerprints: g.fingerprints("other")}
	if _, err := f.c.Read(context.Background(), s); err == nil || !strings.Contains(err.Error(), "it must be signed by") {
		t.Error(err)
	}
	// A key that is in no keyring can lie beside the index; it must be the one that is meant.
	f.put(repo.KeyName, g.must("--armor", "--export", "farm"))
	t.Setenv("GNUPGHOME", newGnuPG(t).home)
	s.Fingerprints = all[:1]
	if _, err := f.c.Read(context.Background(), s); err != nil {
		t.Error(err)
	}
	f.c.Offline = true
	if _, err := f.c.Read(context.Background(), s); err != nil {
		t.Errorf("offline: %v", err)
	}
	f.c.Offline = false
	f.put(repo.KeyName, g.must("--armor", "--export", "other"))
	if _, err := f.c.Read(context.Background(), s); err == nil || !strings.Contains(err.Error(), "it has another fingerprint; give the key in a file") {
		t.Error(err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := f.c.Read(context.Background(), s); err == nil || !strings.Contains(err.Error(), "gpg is not installed") {
		t.Error(err)
	}
}

// A key that is revoked in the user's keyring is not saved by the one beside the index.
func TestARevokedKeyIsRefused(t *testing.T) {
	g := newGnuPG(t)
	g.must("--quick-gen-key", "farm", "ed25519", "sign", "never")
	fingerprint := g.fingerprints("farm")[0]
	f := newFarm(t)
	f.c.Now = time.Now().Add(time.Hour) // gpg signs by its own clock
	t.Setenv("GNUPGHOME", g.home)
	f.c.Export = nil
	f.put(repo.IndexName, []byte("[web]\narch=x86_64\nfile=web\n"))
	f.put(repo.KeyName, g.must("--armor", "--export", "farm"))
	g.must("--output", filepath.Join(f.dir, repo.SignedIndexName), "--clearsign", filepath.Join(f.dir, repo.IndexName))
	s := Source{URL: f.url, Fingerprints: []string{fingerprint}}
	if _, err := f.c.Read(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	revocation, err := os.ReadFile(filepath.Join(g.home, "openpgp-revocs.d", fingerprint+".rev"))
	peer.Must(t, err)
	path := filepath.Join(t.TempDir(), "revocation")
	peer.Must(t, os.WriteFile(path, bytes.Replace(revocation, []byte(":-----BEGIN"), []byte("-----BEGIN"), 1), 0o644))
	g.must("--import", path)
	if _, err := f.c.Read(context.Background(), s); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Error(err)
	}
}

// An image of others can have a signature beside it in place of a checksum.
func TestAnImageIsHeldAgainstTheSignatureBesideIt(t *testing.T) {
	g := newGnuPG(t)
	for _, name := range []string{"farm", "other"} {
		g.must("--quick-gen-key", name, "ed25519", "sign", "never")
	}
	f := newFarm(t)
	f.c.Now = time.Now().Add(time.Hour) // gpg signs by its own clock
	keyFile := filepath.Join(t.TempDir(), "key")
	peer.Must(t, os.WriteFile(keyFile, g.must("--export", "farm"), 0o644))
	keys, err := ReadKeyFile(keyFile)
	peer.Must(t, err)
	f.image("web", "xz")
	f.put(repo.IndexName, []byte("[web]\narch=x86_64\nfile=web\nsig=web.sig\nformat=raw\nsize=1048576\n"))
	g.must("--local-user", "farm", "--output", filepath.Join(f.dir, repo.SignedIndexName), "--clearsign", filepath.Join(f.dir, repo.IndexName))
	s := Source{URL: f.url, Keys: keys}
	got, err := f.c.Read(context.Background(), s)
	peer.Must(t, err)
	o := Offer{got.Index.Entries[0], got}
	web := filepath.Join(f.dir, "web")
	for _, c := range []struct{ signer, want string }{{"other", "verify by"}, {"farm", ""}} {
		g.must("--local-user", c.signer, "--output", web+".sig", "--detach-sign", web)
		for range 2 {
			f.asked = nil
			d, err := f.c.Disk(context.Background(), o)
			if c.want == "" && (err != nil || d.Format != disk.Raw) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: %+v %v", c.signer, d, err)
			}
		}
	}
	if asked := strings.Join(f.asked, " "); asked != "/web.sig" {
		t.Errorf("what is kept is fetched again: %s", asked)
	}
	// Where nobody wants a signature none is needed.
	peer.Must(t, os.Remove(web+".sig"))
	f.put(repo.IndexName, []byte("[web]\narch=x86_64\nfile=web\nformat=raw\nsize=1048576\n"))
	s = Source{URL: f.url + "/index", Unsigned: true}
	got, err = f.c.Read(context.Background(), s)
	peer.Must(t, err)
	if _, err := f.c.Disk(context.Background(), Offer{got.Index.Entries[0], got}); err != nil {
		t.Error(err)
	}
}

// TestVMAnIndexOfVirtBuilderRepositoryIsRead has the program look into an image in its
// appliance. It cannot sign in Debian 12, so gpg does.
func TestVMAnIndexOfVirtBuilderRepositoryIsRead(t *testing.T) {
	peer.NeedTool(t, "virt-builder-repository", "mke2fs", "xz", "qemu-img")
	g := newGnuPG(t)
	g.must("--quick-gen-key", "farm", "ed25519", "sign", "never")
	f := newFarm(t)
	tree := t.TempDir()
	for name, text := range map[string]string{
		"etc/os-release": "ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n", "etc/debian_version": "12.5\n", "etc/fstab": "",
		"bin/.keep": "", "usr/.keep": "", "var/.keep": "", "lib/.keep": "", "root/.keep": "", "boot/.keep": "", "dev/.keep": "", "proc/.keep": "",
	} {
		path := filepath.Join(tree, name)
		peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		peer.Must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	// The architecture is told by a program of the guest.
	self, err := os.ReadFile("/bin/true")
	peer.Must(t, err)
	peer.Must(t, os.WriteFile(filepath.Join(tree, "bin/true"), self, 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(tree, "bin/rpm"), self, 0o755))
	raw := filepath.Join(f.dir, "web.raw")
	peer.Must(t, os.WriteFile(raw, nil, 0o644))
	peer.Must(t, os.Truncate(raw, 64<<20))
	peer.Run(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, raw)
	want, err := os.ReadFile(raw)
	peer.Must(t, err)
	f.put(repo.IndexName, []byte("[web]\narch=x86_64\nfile=web.raw.xz\nrevision=4\nsize=1\n"))
	c := exec.Command("virt-builder-repository", f.dir)
	c.Env = append(os.Environ(), "LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	keyFile := filepath.Join(t.TempDir(), "key")
	peer.Must(t, os.WriteFile(keyFile, g.must("--export", "farm"), 0o644))
	keys, err := ReadKeyFile(keyFile)
	peer.Must(t, err)
	g.must("--output", filepath.Join(f.dir, repo.SignedIndexName), "--clearsign", filepath.Join(f.dir, repo.IndexName))
	f.c.Now = time.Now().Add(time.Hour) // gpg signs by its own clock
	got, err := f.c.Read(context.Background(), Source{URL: f.url, Keys: keys})
	peer.Must(t, err)
	o, err := (Catalogues{got}).Find(repo.Selector{Image: "web", Arch: "x86_64"})
	peer.Must(t, err)
	if o.Size != 64<<20 || o.Format != "raw" || len(o.Checksum) != 128 || o.Expand == "" {
		t.Errorf("%+v", o.Entry)
	}
	d, err := f.c.Disk(context.Background(), o)
	peer.Must(t, err)
	if have, err := os.ReadFile(d.Path); err != nil || !bytes.Equal(have, want) {
		t.Errorf("the disk is another: %v", err)
	}
}

// Nothing that a server does leaves half an index.
func TestReadingEndsWhenNobodyWaits(t *testing.T) {
	f := newFarm(t)
	f.write(version(1, "web"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.c.Read(ctx, f.source()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	f.c.Media.Fetcher = source.Fetcher{Proxy: "http://127.0.0.1:1"}
	s := f.source()
	if _, err := f.c.Read(context.Background(), s); err != nil {
		t.Errorf("the proxy of another source is used: %v", err)
	}
	s.Proxy = "http://user:word@127.0.0.1:1"
	s.URL += "/other"
	if _, err := f.c.Read(context.Background(), s); err == nil || strings.Contains(err.Error(), "word") {
		t.Error(err)
	}
}
