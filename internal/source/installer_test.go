package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"herdbook/internal/digest"
	"herdbook/internal/pin"
	"herdbook/internal/tree"
)

// installerArchive is an archive that holds trees of installers, too.
type installerArchive struct {
	*archive
	files map[string]string // below /debian/, or the root
}

func (a *installerArchive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if text, ok := a.files[strings.TrimPrefix(r.URL.Path, "/")]; ok {
		switch text {
		case notThere:
			http.NotFound(w, r)
			return
		case forbidden:
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		fmt.Fprint(w, text)
		return
	}
	a.archive.ServeHTTP(w, r)
}

// Texts of files that are missing, or not given out.
const notThere, forbidden = "404", "403"

const (
	images  = "debian/dists/bookworm/main/installer-amd64/current/images/"
	netboot = "netboot/debian-installer/amd64/"
)

func sumLine(text, name string) string { return string(digest.Of([]byte(text))) + "  " + name + "\n" }

// newInstallerArchive is a Debian mirror with an installer, and a tree of
// Anaconda's beside it.
func newInstallerArchive(t *testing.T) (*installerArchive, *httptest.Server) {
	t.Helper()
	a := &installerArchive{newArchive(t), map[string]string{
		images + netboot + "linux": "a kernel", images + netboot + "initrd.gz": "an initrd",
		"os/vmlinuz": "a kernel", "os/initrd.img": "an initrd",
		"os/.treeinfo": "[general]\narch = x86_64\nfamily = Fedora\nversion = 41\n[images-x86_64]\nkernel = vmlinuz\ninitrd = initrd.img\n[checksums]\n" +
			"vmlinuz = sha256:" + string(digest.Of([]byte("a kernel"))) + "\ninitrd.img = sha256:" + string(digest.Of([]byte("an initrd"))) + "\n",
		"bare/linux": "a kernel", "bare/initrd.gz": "an initrd",
	}}
	a.list(sumLine("an initrd", "./"+netboot+"initrd.gz") + sumLine("a kernel", "./"+netboot+"linux"))
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	return a, server
}

// list sets the tree's list and has the Release vouch for it.
func (a *installerArchive) list(sums string) {
	a.files[images+"SHA256SUMS"] = sums
	a.release = "Suite: oldstable\nCodename: bookworm\nDate: Sat, 06 Sep 2025 11:22:40 UTC\nMD5Sum:\n " + strings.Repeat("0", 32) +
		fmt.Sprintf(" %d main/installer-amd64/current/images/SHA256SUMS\nSHA256:\n %s %d main/installer-amd64/current/images/SHA256SUMS\n",
			len(sums), digest.Of([]byte(sums)), len(sums))
}

func TestInstaller(t *testing.T) {
	kernel, initrd := digest.Of([]byte("a kernel")), digest.Of([]byte("an initrd"))
	wrong := digest.Of([]byte("another")).Checksum()
	for name, c := range map[string]struct {
		installer Installer // its location counts from the server
		change    func(*installerArchive)
		want      string // "" is success
		archive   string // what the archive's pin names
	}{
		"debian":                   {Installer{Kind: "preseed", Location: "/debian/dists/bookworm/main/installer-amd64/"}, nil, "", "/debian/dists/bookworm/InRelease"},
		"below":                    {Installer{Kind: "preseed", Location: "/debian/dists/bookworm/main/installer-amd64/current/images"}, nil, "", "/debian/dists/bookworm/InRelease"},
		"within netboot":           {Installer{Kind: "preseed", Location: "/debian/dists/bookworm/main/installer-amd64/current/images/netboot/"}, nil, "", "/debian/dists/bookworm/InRelease"},
		"the files' own directory": {Installer{Kind: "preseed", Location: "/debian/dists/bookworm/main/installer-amd64/current/images/netboot/debian-installer/amd64"}, nil, "", "/debian/dists/bookworm/InRelease"},
		"with checksums that agree": {Installer{Kind: "preseed", Location: "/debian/dists/bookworm/main/installer-amd64", Kernel: kernel.Checksum(), Initrd: initrd.Checksum()}, func(a *installerArchive) {
			a.release, a.raw, a.keyring = "not asked for", true, "/no/such/keys"
		}, "", "/images/SHA256SUMS"},
		"with one that agrees":         {Installer{Kind: "preseed", Location: "/debian/dists/bookworm/main/installer-amd64", Kernel: kernel.Checksum()}, nil, "", "/debian/dists/bookworm/InRelease"},
		"with a checksum that differs": {Installer{Kind: "preseed", Location: "/debian/dists/bookworm/main/installer-amd64", Kernel: wrong}, nil, "the definition gives", ""},
		"a list that was changed": {Installer{Kind: "preseed", Location: "/debian/dists/bookworm/main/installer-amd64"}, func(a *installerArchive) {
			a.files[images+"SHA256SUMS"] += "\n"
		}, "does not match its digest", ""},
		"a list that is not listed": {Installer{Kind: "preseed", Location: "/debian/dists/bookworm/main/installer-amd64"}, func(a *installerArchive) {
			a.release = "Codename: bookworm\n"
		}, "nothing signed vouches for", ""},
		"no keyring": {Installer{Kind: "preseed", Location: "/debian/dists/bookworm/main/installer-amd64"}, func(a *installerArchive) {
			a.keyring = "/no/such/keys"
		}, "read the archive's keys", ""},
		"a list without a signature": {Installer{Kind: "preseed", Location: "/debian/dists/bookworm/main/installer-amd64"}, func(a *installerArchive) {
			a.raw = true
		}, "not a clear-signed text", ""},
		"a list without the kernel": {Installer{Kind: "preseed", Location: "/debian/dists/bookworm/main/installer-amd64"}, func(a *installerArchive) {
			a.list(sumLine("an initrd", "./"+netboot+"initrd.gz"))
		}, "nothing signed vouches for", ""},
		"a tree in no archive":      {Installer{Kind: "preseed", Location: "/bare"}, nil, "give kernel_checksum and initrd_checksum", ""},
		"the same, with checksums":  {Installer{Kind: "preseed", Location: "/bare", Kernel: kernel.Checksum(), Initrd: initrd.Checksum()}, nil, "", ""},
		"the same, with wrong ones": {Installer{Kind: "preseed", Location: "/bare", Kernel: kernel.Checksum(), Initrd: wrong}, nil, "does not match its digest", ""},
		"anaconda":                  {Installer{Kind: "kickstart", Location: "/os/"}, nil, "/os/.treeinfo: give kernel_checksum and initrd_checksum, or an https address", ""},
		"anaconda, with checksums":  {Installer{Kind: "kickstart", Location: "/os/", Kernel: kernel.Checksum(), Initrd: initrd.Checksum()}, nil, "", "/os/.treeinfo"},
		"another machine's": {Installer{Kind: "kickstart", Location: "/os"}, func(a *installerArchive) {
			a.files["os/.treeinfo"] = strings.ReplaceAll(a.files["os/.treeinfo"], "x86_64", "aarch64")
		}, "the tree is for aarch64; herdbook's machines are x86_64", ""},
		"the wrong kind": {Installer{Kind: "autoyast", Location: "/os"}, nil, `for install "kickstart"`, ""},
		"nothing at all": {Installer{Kind: "kickstart", Location: "/nowhere"}, nil, "no installer was found", ""},
	} {
		a, server := newInstallerArchive(t)
		if c.change != nil {
			c.change(a)
		}
		c.installer.Location = server.URL + c.installer.Location
		c.installer.Keyring = a.keyring
		pins, err := (&Fetcher{}).Installer(context.Background(), c.installer, a.now)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkPins(t, name, c.installer, pins, c.archive)
	}
}

// server403 is how it is told that a file is not given out.
func server403(path string) string { return path + ": refused: the server says 403 Forbidden" }

// checkPins checks that a tree's pins are those of the kernel, the initrd and the
// document that the archive is known by.
func checkPins(t *testing.T, name string, i Installer, pins []pin.Pin, archive string) {
	t.Helper()
	got := map[string]pin.Pin{}
	for _, p := range pins {
		got[p.Name] = p
	}
	for part, text := range map[pin.Part]string{pin.Kernel: "a kernel", pin.Initrd: "an initrd"} {
		if p := got[pin.InstallerName(i.Location, part)]; p.Checksum != digest.Of([]byte(text)).Checksum() || !strings.HasPrefix(p.URL, strings.TrimRight(tree.Root(i.Location), "/")) {
			t.Errorf("%s: the %s is %+v", name, part, p)
		}
	}
	if p := got[pin.InstallerName(i.Location, pin.Archive)]; !strings.HasSuffix(p.URL, archive) {
		t.Errorf("%s: the archive is %+v", name, p)
	} else if dated := strings.HasSuffix(p.URL, "/InRelease"); dated != (p.Dated != "") {
		t.Errorf("%s: the archive is dated %q", name, p.Dated)
	}
	for _, known := range slices.Sorted(maps.Keys(got)) {
		if !slices.Contains(i.PinNames(), known) {
			t.Errorf("%s: a pin %q that nobody asks for", name, known)
		}
	}
}

// A tree on this machine needs nobody to vouch for it, and is looked at each time.
func TestAnInstallerOnThisMachine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a tree")
	for name, text := range map[string]string{"linux": "a kernel", "initrd.gz": "an initrd"} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	i := Installer{Kind: "preseed", Location: "file://" + strings.ReplaceAll(dir, " ", "%20")}
	r := &Resolver{Seen: t.TempDir()}
	wanted := []Wanted{{Installer: i, Refresh: Never}, {File: i.Location + "/linux", Refresh: Never}}
	lock, err := r.Resolve(context.Background(), pin.Lock{}, wanted)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := lock.Get(pin.InstallerName(i.Location, pin.Kernel))
	q, _ := lock.Get(pin.FileName(i.Location + "/linux"))
	if p.Checksum != digest.Of([]byte("a kernel")).Checksum() || q.Checksum != p.Checksum {
		t.Errorf("%+v, %+v", p, q)
	}
	if err := os.WriteFile(filepath.Join(dir, "linux"), []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	lock, err = r.Resolve(context.Background(), lock, wanted)
	p, _ = lock.Get(pin.InstallerName(i.Location, pin.Kernel))
	if err != nil || p.Checksum != digest.Of([]byte("another")).Checksum() {
		t.Errorf("%+v, %v", p, err)
	}
}

// A definition that changes what it gives is looked at anew, whatever was pinned.
func TestPinsOfAnotherDefinitionDoNotCount(t *testing.T) {
	a, server := newInstallerArchive(t)
	kernel, initrd := digest.Of([]byte("a kernel")).Checksum(), digest.Of([]byte("an initrd")).Checksum()
	i := Installer{Kind: "preseed", Location: server.URL + "/debian/dists/bookworm/main/installer-amd64", Keyring: a.keyring}
	r := &Resolver{Seen: t.TempDir(), Now: a.now}
	lock, err := r.Resolve(context.Background(), pin.Lock{}, []Wanted{{Installer: i, Refresh: Daily}})
	if err != nil {
		t.Fatal(err)
	}
	names := i.PinNames()
	other := newArchive(t).keyring
	for name, c := range map[string]struct {
		change  func(*Installer)
		lock    pin.Lock
		refresh Refresh
		want    string // of the error; "" if nobody is asked
	}{
		"the same":              {func(*Installer) {}, lock, Daily, ""},
		"a checksum":            {func(i *Installer) { i.Kernel = kernel }, lock, Never, ""},
		"another checksum":      {func(i *Installer) { i.Kernel = initrd }, lock, Never, "the definition gives"},
		"one of SHA-512":        {func(i *Installer) { i.Initrd = digest.Checksum("sha512:" + strings.Repeat("0", 128)) }, lock, Never, "does not match its digest"},
		"another keyring":       {func(i *Installer) { i.Keyring = other }, lock, Daily, "bad signature"},
		"another kind":          {func(i *Installer) { i.Kind = "kickstart" }, lock, Daily, `for install "preseed"`},
		"the initrd's is gone":  {func(i *Installer) { i.Keyring = other }, lock.Without(names[1:2]), Never, "bad signature"},
		"the archive's is gone": {func(i *Installer) { i.Keyring = other }, lock.Without(names[2:]), Never, ""},
	} {
		changed := i
		c.change(&changed)
		_, err := r.Resolve(context.Background(), c.lock, []Wanted{{Installer: changed, Refresh: c.refresh}})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A tree that is known by no document any more has no pin of one left.
func TestPinsThatALookDoesNotFindAreGone(t *testing.T) {
	a, server := newInstallerArchive(t)
	sum := digest.Of([]byte("a kernel")).Checksum()
	i := Installer{Kind: "preseed", Location: server.URL + "/bare", Kernel: sum, Initrd: digest.Of([]byte("an initrd")).Checksum()}
	stale := pin.Pin{Name: pin.InstallerName(i.Location, pin.Archive), URL: "u", Checksum: digest.Of(nil).Checksum()}
	r := &Resolver{Seen: t.TempDir(), Now: a.now}
	lock, err := r.Resolve(context.Background(), pin.Lock{}.With(stale), []Wanted{{Installer: i, Refresh: Daily}})
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := lock.Get(stale.Name); ok {
		t.Errorf("%+v is left", p)
	}
}

// The addresses in the lock are those that were asked for, escapes and all.
func TestPinsHaveAddressesThatCanBeFetched(t *testing.T) {
	a, server := newInstallerArchive(t)
	const name = "a b/vmlinuz+ü"
	a.files["os/"+name] = "a kernel"
	a.files["os/.treeinfo"] = strings.ReplaceAll(a.files["os/.treeinfo"], "vmlinuz", name)
	i := Installer{Kind: "kickstart", Location: server.URL + "/os", Kernel: digest.Of([]byte("a kernel")).Checksum(), Initrd: digest.Of([]byte("an initrd")).Checksum()}
	f := &Fetcher{}
	pins, err := f.Installer(context.Background(), i, a.now)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := f.Get(context.Background(), pins[0].URL, 100); err != nil || string(text) != "a kernel" || strings.Contains(pins[0].URL, " ") {
		t.Errorf("%s: %q, %v", pins[0].URL, text, err)
	}
}
