package bootstrap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"herdbook/internal/digest"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/ext4"
	"herdbook/internal/filesystem"
	"herdbook/internal/peer"
	"herdbook/internal/program"
	"herdbook/internal/signed"
)

// mirror is a small repository: the packages without which an image would not
// boot, by name, with next to nothing in them.
type mirror struct {
	dir     string
	keyring string
	release digest.Digest
	url     string
}

func newMirror(t *testing.T) *mirror {
	t.Helper()
	peer.NeedTool(t, "mmdebstrap", "dpkg-deb", "dpkg-scanpackages")
	m := &mirror{dir: t.TempDir()}
	pool := filepath.Join(m.dir, "pool")
	peer.Must(t, os.Mkdir(pool, 0o755))
	for _, name := range append([]string{"linux-image-amd64", "base"}, essential["amd64"]...) {
		m.pack(t, pool, name)
	}
	m.publish(t)
	return m
}

// pack builds a package. Its files have owners, modes and links that must come
// through.
func (m *mirror) pack(t *testing.T, pool, name string) {
	t.Helper()
	tree := t.TempDir()
	control := fmt.Sprintf("Package: %s\nVersion: 1\nArchitecture: amd64\nMaintainer: test <t@example.org>\nDescription: test\n", name)
	if name == "base" {
		control += "Essential: yes\n"
		for _, dir := range []string{"etc/apt", "usr/bin", "var/lib/dpkg", "dev"} {
			peer.Must(t, os.MkdirAll(filepath.Join(tree, dir), 0o755))
		}
		peer.Must(t, os.WriteFile(filepath.Join(tree, "etc/secret"), []byte("moo\n"), 0o640))
		peer.Must(t, os.WriteFile(filepath.Join(tree, "usr/bin/su"), []byte("x"), 0o755))
		peer.Must(t, os.Chmod(filepath.Join(tree, "usr/bin/su"), 0o755|os.ModeSetuid))
		for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
			peer.Must(t, os.MkdirAll(filepath.Join(tree, "usr", dir), 0o755))
			peer.Must(t, os.Symlink("usr/"+dir, filepath.Join(tree, dir)))
		}
		for _, program := range []string{"dpkg", "dpkg-deb", "dpkg-split", "dpkg-query", "tar", "rm", "sh", "diff", "env", "ldconfig", "start-stop-daemon"} {
			copyProgram(t, tree, program)
		}
		peer.Must(t, os.Link(filepath.Join(tree, "usr/bin/su"), filepath.Join(tree, "usr/bin/hard")))
		if os.Getuid() == 0 {
			peer.Must(t, os.Chown(filepath.Join(tree, "etc/secret"), 33, 42))
		}
	}
	peer.Must(t, os.MkdirAll(filepath.Join(tree, "DEBIAN"), 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(tree, "DEBIAN/control"), []byte(control), 0o644))
	args := []string{"--build", "-Znone", tree, filepath.Join(pool, name+"_1_amd64.deb")}
	if os.Getuid() != 0 {
		args = append([]string{"--root-owner-group"}, args...)
	}
	peer.Run(t, "dpkg-deb", args...)
}

// copyProgram puts a program of the host and its libraries into a tree.
func copyProgram(t *testing.T, tree, name string) {
	t.Helper()
	path, err := program.Find(name)
	peer.Must(t, err)
	files := []string{path}
	libraries, err := exec.Command("ldd", path).Output()
	if err == nil { // else it is static
		for field := range strings.FieldsSeq(string(libraries)) {
			if strings.HasPrefix(field, "/") {
				files = append(files, field)
			}
		}
	}
	for _, file := range files {
		target := filepath.Join(tree, "usr", strings.TrimPrefix(file, "/usr"))
		peer.Must(t, os.MkdirAll(filepath.Dir(target), 0o755))
		peer.Run(t, "cp", "--dereference", file, target)
	}
}

// publish writes the index of the packages and signs it.
func (m *mirror) publish(t *testing.T) {
	t.Helper()
	packages := []byte(peer.Run(t, "sh", "-c", "cd "+m.dir+" && dpkg-scanpackages -m pool 2>/dev/null"))
	where := filepath.Join(m.dir, "dists/tiny/main/binary-amd64")
	peer.Must(t, os.MkdirAll(where, 0o755))
	peer.Must(t, os.WriteFile(filepath.Join(where, "Packages"), packages, 0o644))
	m.sign(t, fmt.Sprintf("Origin: test\nSuite: tiny\nCodename: tiny\nDate: %s\nArchitectures: amd64\nComponents: main\nSHA256:\n %x %d main/binary-amd64/Packages\n",
		time.Now().UTC().Format(time.RFC1123), sha256.Sum256(packages), len(packages)))
}

func (m *mirror) sign(t *testing.T, release string) {
	t.Helper()
	now := time.Now().Add(-time.Minute)
	key, err := signed.NewKey("mirror", now)
	peer.Must(t, err)
	signer, err := signed.NewSigner(key, now)
	peer.Must(t, err)
	public, err := signer.PublicKey()
	peer.Must(t, err)
	if m.keyring == "" {
		m.keyring = filepath.Join(m.dir, "key.asc")
		peer.Must(t, os.WriteFile(m.keyring, public, 0o644))
	}
	text, err := signer.Sign([]byte(release), now)
	peer.Must(t, err)
	m.release = digest.Of(text)
	peer.Must(t, os.WriteFile(filepath.Join(m.dir, "dists/tiny/InRelease"), text, 0o644))
}

// serve starts a server for the mirror, or for what another handler makes of it.
func (m *mirror) serve(t *testing.T, handler http.Handler) {
	t.Helper()
	if handler == nil {
		handler = http.FileServer(http.Dir(m.dir))
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	m.url = server.URL
}

// spec is a bootstrap from the mirror, without what a variant would add.
func (m *mirror) spec() Spec {
	return Spec{
		Suite: "tiny", Mirror: m.url, Components: []string{"main"}, Variant: "custom", Include: []string{"base"}, Keyring: m.keyring,
		Architecture: "amd64", Size: 1 << 30, Release: m.release, Epoch: 1_700_000_000, Seed: "seed",
	}
}

// noneLeft fails if a process works on a directory still.
func noneLeft(t *testing.T, dir string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	peer.Must(t, err)
	for _, line := range lines {
		if text, err := os.ReadFile(line); err == nil && bytes.Contains(text, []byte(dir)) {
			t.Errorf("%s is left: %q", filepath.Dir(line), text)
		}
	}
}

// open reads the root of a bootstrapped disk.
func open(t *testing.T, path string) *ext4.FS {
	t.Helper()
	image, err := disk.Open(path, disk.QCOW2)
	peer.Must(t, err)
	t.Cleanup(func() { peer.Must(t, image.Close()) })
	table, err := disk.ReadTable(image, image.Size())
	peer.Must(t, err)
	if len(table.Partitions) != 3 {
		t.Fatalf("partitions: %+v", table.Partitions)
	}
	root := disk.Section(image, table.Partitions[2])
	fs, err := ext4.Open(root, root.Size())
	peer.Must(t, err)
	return fs
}

func TestPackagesBecomeADisk(t *testing.T) {
	peer.NeedTool(t, "qemu-img", "mke2fs")
	m := newMirror(t)
	m.serve(t, nil)
	scratch, path := t.TempDir(), filepath.Join(t.TempDir(), "disk.qcow2")
	if err := Make(t.Context(), m.spec(), scratch, path, nil); err != nil {
		t.Fatal(err)
	}
	fs := open(t, path)
	stat := func(name string) *filesystem.Stat {
		info, err := fs.Lstat(name)
		peer.Must(t, err)
		return info.Sys().(*filesystem.Stat)
	}
	if secret := stat("etc/secret"); os.Getuid() == 0 && (secret.UID != 33 || secret.GID != 42) || secret.Mode&0o7777 != 0o640 {
		t.Errorf("etc/secret: %+v", secret)
	}
	if su := stat("usr/bin/su"); su.Mode&0o7777 != 0o4755 || su.UID != 0 || su.Nlink != 2 || su.Ino != stat("usr/bin/hard").Ino {
		t.Errorf("usr/bin/su: %+v", su)
	}
	if fstab := stat("etc/fstab"); fstab.Mtime.Unix() > m.spec().Epoch {
		t.Errorf("etc/fstab is of %v, newer than the release", fstab.Mtime)
	}
	noneLeft(t, scratch)
}

func TestAMirrorThatMovedIsToldApart(t *testing.T) {
	m := newMirror(t)
	m.serve(t, nil)
	s := m.spec()
	s.Release = digest.Of([]byte("of yesterday"))
	err := Make(t.Context(), s, t.TempDir(), filepath.Join(t.TempDir(), "disk"), nil)
	if !errors.Is(err, ErrMoved) || !strings.Contains(err.Error(), m.url) {
		t.Errorf("the error: %v", err)
	}
}

func TestFaultsOfAMirror(t *testing.T) {
	m := newMirror(t)
	files := http.FileServer(http.Dir(m.dir))
	release, err := os.ReadFile(filepath.Join(m.dir, "dists/tiny/InRelease"))
	peer.Must(t, err)
	for name, c := range map[string]struct {
		handler http.Handler
		spoil   func(t *testing.T)
		want    string
	}{
		"no such suite": {handler: http.NotFoundHandler(), want: "404"},
		"a package is gone": {handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "udev") {
				http.NotFound(w, r)
				return
			}
			files.ServeHTTP(w, r)
		}), want: "404"},
		"a package is another": {handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "udev") {
				fmt.Fprint(w, "this is no package")
				return
			}
			files.ServeHTTP(w, r)
		}), want: "udev"},
		"it breaks off": {handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			fmt.Fprint(w, "a")
			panic(http.ErrAbortHandler)
		}), want: "InRelease"},
		"an unknown key": {spoil: func(t *testing.T) { m.sign(t, "Suite: tiny\n") }, want: "NO_PUBKEY"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.spoil != nil {
				c.spoil(t)
				defer func() { peer.Must(t, os.WriteFile(filepath.Join(m.dir, "dists/tiny/InRelease"), release, 0o644)) }()
			}
			m.serve(t, c.handler)
			scratch := t.TempDir()
			path := filepath.Join(t.TempDir(), "disk")
			err := Make(t.Context(), m.spec(), scratch, path, nil)
			if err == nil {
				t.Fatal("it went well")
			}
			for _, want := range []string{"bootstrap tiny from " + m.url, c.want} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in the error: %v", want, err)
				}
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a disk was made: %v", err)
			}
			noneLeft(t, scratch)
		})
	}
}

// A mirror that takes the question and never answers ends with the context, and
// everything that was started with it.
func TestAMirrorThatHangs(t *testing.T) {
	m := newMirror(t)
	asked := make(chan struct{}, 100)
	m.serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	ctx, cancel := context.WithCancelCause(t.Context())
	late := errors.New("it was not done after 30m")
	go func() {
		<-asked
		cancel(late)
	}()
	scratch := t.TempDir()
	if err := Make(ctx, m.spec(), scratch, filepath.Join(t.TempDir(), "disk"), nil); !errors.Is(err, late) {
		t.Errorf("the error: %v", err)
	}
	noneLeft(t, scratch)
}

func TestCommandLines(t *testing.T) {
	s := Spec{
		Suite: "bookworm", Mirror: "http://mirror.example.org/debian", Components: []string{"main", "contrib"}, Variant: "important",
		Include: []string{"curl", "linux-image-cloud-amd64"}, Keyring: "/keys.gpg", Architecture: "amd64", Size: 4 << 30, Seed: "seed",
	}
	parts, err := layout(s)
	peer.Must(t, err)
	lines := append([]string{"# mmdebstrap"}, s.mmdebstrap("/scratch")...)
	lines = append(append(lines, "# mke2fs"), s.mke2fs(parts, "/tree", "/disk.raw")...)
	peer.Golden(t, "commands", []byte(strings.Join(lines, "\n")+"\n"))
}

func TestAKernelAndAnInitAreAddedUnlessOneIsNamed(t *testing.T) {
	for _, c := range []struct {
		include []string
		want    string
		not     string
	}{
		{nil, "linux-image-amd64", "cloud"},
		{[]string{"linux-image-cloud-amd64"}, "linux-image-cloud-amd64", "linux-image-amd64"},
		{nil, "systemd-sysv", "sysvinit"},
		{[]string{"openrc", "sysvinit-core"}, "openrc sysvinit-core", "systemd-sysv"},
	} {
		got := strings.Join(Spec{Include: c.include, Architecture: "amd64"}.include(), " ") + " "
		if !strings.Contains(got, c.want+" ") || strings.Contains(got, c.not) {
			t.Errorf("%v: %s", c.include, got)
		}
	}
}

func TestLayout(t *testing.T) {
	for _, size := range []int64{0, 1 << 20, 1<<30 - 1<<20, 1<<30 + 512} {
		if _, err := layout(Spec{Size: size}); err == nil || !strings.Contains(err.Error(), "1 GiB") {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	a, err := layout(Spec{Size: 1 << 30, Seed: "a"})
	peer.Must(t, err)
	b, err := layout(Spec{Size: 1 << 30, Seed: "b"})
	peer.Must(t, err)
	if a.rootID == b.rootID || a.diskID == b.diskID || a.espID == b.espID || a.rootID == a.diskID {
		t.Error("two disks share an identifier")
	}
	path := filepath.Join(t.TempDir(), "raw")
	peer.Must(t, a.write(path, 1<<30))
	peer.NeedTool(t, "sfdisk", "fsck.vfat")
	if out := peer.Run(t, "sfdisk", "--verify", path); !strings.Contains(out, "No errors detected") {
		t.Error(out)
	}
	esp := filepath.Join(t.TempDir(), "esp")
	peer.Run(t, "dd", "status=none", "if="+path, "of="+esp, "bs=1M", "skip=2", "count=64")
	peer.Run(t, "fsck.vfat", "-n", esp)
	if err := a.write(path, 1<<30); err == nil {
		t.Error("a disk that was there was written over")
	}
}

func TestOtherArchitecturesAreRefused(t *testing.T) {
	err := Make(t.Context(), Spec{Architecture: "vax", Size: 1 << 30}, t.TempDir(), "x", nil)
	if err == nil || !strings.Contains(err.Error(), `"vax"`) {
		t.Errorf("the error: %v", err)
	}
}

func TestSpeechKeepsErrorsAndTheRelease(t *testing.T) {
	var said []string
	s := &speech{sink: func(e event.Event) { said = append(said, e.Text) }}
	w := s.stream("mmdebstrap")
	for _, text := range []string{"I: working\n 10%\r 20%\r", "E: bad", " thing\nplain\n" + releaseMark + "abc\n", "W: last"} {
		n, err := w.Write([]byte(text))
		if n != len(text) || err != nil {
			t.Errorf("Write: %d, %v", n, err)
		}
	}
	s.flush()
	if s.errors("mmdebstrap") != "  E: bad thing\n  W: last" || s.release != "abc" {
		t.Errorf("errors %q, release %q", s.errors("mmdebstrap"), s.release)
	}
	if got := strings.Join(said, "|"); got != "mmdebstrap: I: working|mmdebstrap:  10%|mmdebstrap:  20%|mmdebstrap: E: bad thing|mmdebstrap: plain|mmdebstrap: W: last" {
		t.Error(got)
	}
	if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil || cap(w.(*stream).partial) > 2*maxLine {
		t.Errorf("an endless line takes %d bytes, %v", cap(w.(*stream).partial), err)
	}
}
