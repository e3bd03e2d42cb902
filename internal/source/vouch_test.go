package source

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
)

// sign is a signature beside a text.
func (a *archive) sign(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&b, a.key, strings.NewReader(text), nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// suse adds a tree of SUSE's.
func (a *installerArchive) suse() {
	a.files["suse/boot/x86_64/loader/linux"], a.files["suse/boot/x86_64/loader/initrd"] = "a kernel", "an initrd"
	a.files["suse/CHECKSUMS"] = sumLine("a kernel", "boot/x86_64/loader/linux") + sumLine("an initrd", "boot/x86_64/loader/initrd")
}

// ubuntu moves the Debian tree to where Ubuntu has it.
func (a *installerArchive) ubuntu() {
	for name, text := range maps.Clone(a.files) {
		if strings.HasPrefix(name, images+netboot) {
			delete(a.files, name)
			a.files[strings.Replace(name, "debian-installer", "ubuntu-installer", 1)] = text
		}
	}
	a.files[images+"SHA256SUMS"] = strings.ReplaceAll(a.files[images+"SHA256SUMS"], "debian-installer", "ubuntu-installer")
}

// Who vouches for a tree, by what lies in it, and by the way that it came.
func TestVouch(t *testing.T) {
	const debian = "/debian/dists/bookworm/main/installer-amd64"
	other := newArchive(t)
	unlisted := func(a *installerArchive) { a.release = "Codename: bookworm\nDate: Sat, 06 Sep 2025 11:22:40 UTC\n" }
	type change = func(*installerArchive)
	signBy := func(key func(*installerArchive) *archive, document, suffix string) change {
		return func(a *installerArchive) { a.files[document+suffix] = key(a).sign(t, a.files[document]) }
	}
	own := func(a *installerArchive) *archive { return a.archive }
	foreign := func(*installerArchive) *archive { return other }
	for name, c := range map[string]struct {
		installer Installer // its location counts from the server; its keyring is the archive's unless it is "-"
		secure    bool
		changes   []change
		want      string // "" is success
		archive   string
	}{
		"no Release, a signature":   {Installer{Kind: "preseed", Location: debian}, false, []change{unreleased, signBy(own, images+"SHA256SUMS", ".gpg")}, "", "/images/SHA256SUMS"},
		"not listed, a signature":   {Installer{Kind: "preseed", Location: debian}, false, []change{unlisted, signBy(own, images+"SHA256SUMS", ".gpg")}, "", "/InRelease"},
		"a foreign signature":       {Installer{Kind: "preseed", Location: debian}, false, []change{unreleased, signBy(foreign, images+"SHA256SUMS", ".gpg")}, "bad signature", ""},
		"the same by HTTPS":         {Installer{Kind: "preseed", Location: debian}, true, []change{unreleased, signBy(foreign, images+"SHA256SUMS", ".gpg")}, "bad signature", ""},
		"no signature by HTTPS":     {Installer{Kind: "preseed", Location: debian}, true, []change{unreleased}, "", "/images/SHA256SUMS"},
		"no signature by HTTP":      {Installer{Kind: "preseed", Location: debian}, false, []change{unreleased}, "SHA256SUMS: give kernel_checksum and initrd_checksum, or an https address", ""},
		"no keys for a signature":   {Installer{Kind: "preseed", Location: debian, Keyring: "/no/such/keys"}, false, []change{unreleased, signBy(own, images+"SHA256SUMS", ".gpg")}, "read the archive's keys", ""},
		"keys that nobody needs":    {Installer{Kind: "preseed", Location: debian, Keyring: "/no/such/keys"}, true, []change{unreleased}, "", "/images/SHA256SUMS"},
		"no Release is given out":   {Installer{Kind: "preseed", Location: debian}, false, []change{func(a *installerArchive) { a.files["debian/dists/bookworm/InRelease"] = forbidden }}, server403("/InRelease"), ""},
		"the same, by HTTPS":        {Installer{Kind: "preseed", Location: debian}, true, []change{func(a *installerArchive) { a.files["debian/dists/bookworm/InRelease"] = forbidden }}, "", "/images/SHA256SUMS"},
		"anaconda by HTTPS":         {Installer{Kind: "kickstart", Location: "/os"}, true, nil, "", "/os/.treeinfo"},
		"anaconda's packages":       {Installer{Kind: "kickstart", Location: "/os"}, true, []change{packages("os")}, "", "/os/repodata/repomd.xml"},
		"suse's packages":           {Installer{Kind: "autoyast", Location: "/suse"}, true, []change{packages("suse")}, "", "/suse/repodata/repomd.xml"},
		"packages vouch not":        {Installer{Kind: "kickstart", Location: "/os"}, false, []change{packages("os")}, "nothing signed vouches for", ""},
		"weak sums by HTTPS":        {Installer{Kind: "kickstart", Location: "/os"}, true, []change{weak}, "/os/vmlinuz: give kernel_checksum and initrd_checksum", ""},
		"suse, signed":              {Installer{Kind: "autoyast", Location: "/suse"}, false, []change{signBy(own, "suse/CHECKSUMS", ".asc")}, "", "/suse/CHECKSUMS"},
		"suse, signed by another":   {Installer{Kind: "autoyast", Location: "/suse"}, true, []change{signBy(foreign, "suse/CHECKSUMS", ".asc")}, "bad signature", ""},
		"suse without a keyring":    {Installer{Kind: "autoyast", Location: "/suse", Keyring: "-"}, false, []change{signBy(own, "suse/CHECKSUMS", ".asc")}, "nothing signed vouches for", ""},
		"the same by HTTPS, itself": {Installer{Kind: "autoyast", Location: "/suse", Keyring: "-"}, true, []change{signBy(own, "suse/CHECKSUMS", ".asc")}, "", "/suse/CHECKSUMS"},
		"no list at all, by HTTPS":  {Installer{Kind: "preseed", Location: "/bare"}, true, nil, "/bare/linux: give kernel_checksum and initrd_checksum", ""},
	} {
		a, server := newInstallerArchive(t)
		a.suse()
		for _, change := range c.changes {
			change(a)
		}
		f := &Fetcher{}
		if c.secure {
			server = httptest.NewTLSServer(a)
			t.Cleanup(server.Close)
			f.transport = server.Client().Transport
		}
		c.installer.Location = server.URL + c.installer.Location
		switch c.installer.Keyring {
		case "":
			c.installer.Keyring = a.keyring
		case "-":
			c.installer.Keyring = ""
		}
		pins, err := f.Installer(context.Background(), c.installer, a.now)
		switch {
		case c.want != "":
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		default:
			checkPins(t, name, c.installer, pins, c.archive)
		}
	}
}

// unreleased takes the suite's Release away.
func unreleased(a *installerArchive) { a.files["debian/dists/bookworm/InRelease"] = notThere }

// packages adds an index of packages to a tree.
func packages(tree string) func(*installerArchive) {
	return func(a *installerArchive) { a.files[tree+"/repodata/repomd.xml"] = "<repomd/>" }
}

// weak makes the checksums of a treeinfo such as nobody trusts any more.
func weak(a *installerArchive) {
	a.files["os/.treeinfo"] = strings.ReplaceAll(a.files["os/.treeinfo"], "sha256:", "sha1:")
}

// Who has Ubuntu's tree and Debian's keys is told which keys there are.
func TestUbuntusKeyringIsNamed(t *testing.T) {
	a, server := newInstallerArchive(t)
	a.ubuntu()
	unreleased(a)
	a.files[images+"SHA256SUMS.gpg"] = a.sign(t, a.files[images+"SHA256SUMS"])
	i := Installer{Kind: "preseed", Location: server.URL + "/debian/dists/bookworm/main/installer-amd64"}
	// Debian's keyring may lie on this machine or not: the keys are none of its.
	_, err := (&Fetcher{}).Installer(context.Background(), i, a.now)
	if err == nil || !strings.Contains(err.Error(), `give keyring = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"`) {
		t.Error(err)
	}
	i.Keyring = newArchive(t).keyring
	if _, err := (&Fetcher{}).Installer(context.Background(), i, a.now); err == nil || strings.Contains(err.Error(), "ubuntu-archive") {
		t.Error(err)
	}
}

// What came by HTTPS vouches for itself only if it came so all the way.
func TestARedirectFromHTTPSToHTTPIsRefused(t *testing.T) {
	a, plain := newInstallerArchive(t)
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL+"/os/.treeinfo", http.StatusFound))
	defer secure.Close()
	f := &Fetcher{transport: secure.Client().Transport}
	i := Installer{Kind: "kickstart", Location: secure.URL + "/os"}
	_, err := f.Installer(context.Background(), i, a.now)
	if !errors.Is(err, errDowngraded) || errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), plain.URL) {
		t.Error(err)
	}
	// Upwards, and on the same level, redirects are followed.
	up := httptest.NewServer(http.RedirectHandler(plain.URL+"/os/vmlinuz", http.StatusFound))
	defer up.Close()
	if text, err := f.Get(context.Background(), up.URL, 100); err != nil || string(text) != "a kernel" {
		t.Errorf("%q, %v", text, err)
	}
	loop := httptest.NewServer(http.RedirectHandler("/", http.StatusFound))
	defer loop.Close()
	if _, err := f.Get(context.Background(), loop.URL, 100); err == nil || !strings.Contains(err.Error(), "redirected too often") {
		t.Error(err)
	}
}

// A copy of a tree on this machine needs nobody.
func TestATreeOnThisMachineVouchesForItself(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "debian/dists/bookworm/main/installer-amd64/current/images")
	kernel := filepath.Join(dir, netboot, "linux")
	for name, text := range map[string]string{
		kernel: "a kernel", filepath.Join(dir, netboot, "initrd.gz"): "an initrd",
		filepath.Join(dir, "SHA256SUMS"): sumLine("a kernel", "./"+netboot+"linux") + sumLine("an initrd", "./"+netboot+"initrd.gz"),
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	i := Installer{Kind: "preseed", Location: "file://" + dir}
	pins, err := (&Fetcher{}).Installer(context.Background(), i, newArchive(t).now)
	if err != nil {
		t.Fatal(err)
	}
	checkPins(t, "here", i, pins, "/SHA256SUMS")
}
