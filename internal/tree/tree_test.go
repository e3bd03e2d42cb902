package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"herdbook/internal/digest"
	"herdbook/internal/peer"
)

// memory is a tree in memory.
type memory map[string]string

func (m memory) Read(name string, limit int64) ([]byte, error) {
	text, ok := m[name]
	if !ok {
		return nil, fmt.Errorf("read %s: %w", name, fs.ErrNotExist)
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("read %s: too large", name)
	}
	return []byte(text), nil
}

func (m memory) Exists(name string) (bool, error) {
	if m[name] == "broken" {
		return false, errors.New("no answer")
	}
	_, ok := m[name]
	return ok, nil
}

// with adds to a tree.
func (m memory) with(more memory) memory {
	all := maps.Clone(m)
	maps.Copy(all, more)
	return all
}

const (
	kernelSum = "d8808aa4ca188560da1e6d749dcb930c87a5fd8b11ebff1f3fa6d728af35203d"
	initrdSum = "cb24a28a5ba13dfb22e6e75bdd8ab997dbdee6e3ec6c1102f6c7f93044bd817d"
)

// treeinfo is a description as productmd writes it.
func treeinfo(family, name, version string) string {
	return `[checksums]
images/efiboot.img = sha256:` + strings.Repeat("0a", 32) + `
images/install.img = sha256:` + strings.Repeat("0b", 32) + `
images/pxeboot/initrd.img = sha256:` + initrdSum + `
images/pxeboot/vmlinuz = sha256:` + kernelSum + `

[general]
; WARNING.0 = This section provides compatibility with pre-productmd treeinfos.
arch = x86_64
family = ` + family + `
name = ` + family + ` ` + version + `
packagedir = Packages
platforms = x86_64,xen
repository = .
timestamp = 1731415687
variant = BaseOS
version = ` + version + `

[header]
type = productmd.treeinfo
version = 1.2

[images-x86_64]
efiboot.img = images/efiboot.img
initrd = images/pxeboot/initrd.img
kernel = images/pxeboot/vmlinuz

[images-xen]
initrd = images/pxeboot/initrd.img
kernel = images/pxeboot/vmlinuz

[release]
name = ` + name + `
short = ` + family + `
version = ` + version + `

[stage2]
mainimage = images/install.img

[tree]
arch = x86_64
build_timestamp = 1731415687
platforms = x86_64,xen
variants = BaseOS
`
}

// examples are trees as they are published, by the location that they were found
// at and the kind that they are for.
func examples() map[string]struct {
	kind     Kind
	location string
	files    memory
} {
	anaconda := memory{"images/pxeboot/vmlinuz": "k", "images/pxeboot/initrd.img": "i", "images/install.img": "s"}
	netboot := func(images, brand, arch, kernel string) memory {
		dir := "netboot/" + brand + "/" + arch + "/"
		return memory{
			images + "MANIFEST": dir + kernel + " -- kernel image for netboot\n", images + dir + kernel: "k", images + dir + "initrd.gz": "i",
			images + "SHA256SUMS": initrdSum + "  ./" + dir + "initrd.gz\n" + kernelSum + "  ./" + dir + kernel + "\n" +
				strings.Repeat("0c", 32) + "  ./cdrom/vmlinuz\n",
		}
	}
	suse := memory{
		"boot/x86_64/loader/linux": "k", "boot/x86_64/loader/initrd": "i", "media.1/products": "/ openSUSE-Leap 15.6-1\n",
		"CHECKSUMS": strings.Repeat("0d", 32) + "  boot/x86_64/common\n" + initrdSum + "  boot/x86_64/loader/initrd\n" + kernelSum + "  boot/x86_64/loader/linux\n",
	}
	type example = struct {
		kind     Kind
		location string
		files    memory
	}
	const mirror = "http://mirror.invalid/"
	return map[string]example{
		"debian":         {Debian, mirror + "debian/dists/bookworm/main/installer-amd64/", netboot("current/images/", "debian-installer", "amd64", "linux")},
		"debian-ppc64el": {Debian, mirror + "debian/dists/bookworm/main/installer-ppc64el", netboot("current/images/", "debian-installer", "ppc64el", "vmlinux")},
		"debian-daily":   {Debian, mirror + "daily-images/arm64/", netboot("daily/", "debian-installer", "arm64", "linux")},
		"debian-images":  {Debian, mirror + "dists/trixie/main/installer-amd64/current/images", netboot("", "debian-installer", "amd64", "linux")},
		"debian-disc":    {Debian, "file:///srv/debian-12-amd64-netinst.iso", memory{".disk/info": "Debian GNU/Linux 12.8.0 \"Bookworm\" - Official amd64 NETINST with firmware 20241109-11:05\n", "install.amd/vmlinuz": "k", "install.amd/initrd.gz": "i"}},
		"debian-package": {Debian, "file:///usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64", memory{"linux": "k", "initrd.gz": "i"}},
		"ubuntu-focal":   {Debian, mirror + "ubuntu/dists/focal/main/installer-amd64/", netboot("current/legacy-images/", "ubuntu-installer", "amd64", "linux")},
		"fedora":         {Anaconda, mirror + "fedora/41/Everything/x86_64/os/", anaconda.with(memory{".treeinfo": treeinfo("Fedora", "Fedora", "41")})},
		"rhel":           {Anaconda, mirror + "rhel9", anaconda.with(memory{".treeinfo": treeinfo("Red Hat Enterprise Linux", "Red Hat Enterprise Linux", "9.5")})},
		"centos-stream":  {Anaconda, mirror + "9-stream/BaseOS/x86_64/os", anaconda.with(memory{".treeinfo": treeinfo("CentOS Stream", "CentOS Stream", "9")})},
		"almalinux":      {Anaconda, mirror + "almalinux/9/BaseOS/x86_64/os", anaconda.with(memory{".treeinfo": treeinfo("AlmaLinux", "AlmaLinux", "9.5")})},
		"rocky":          {Anaconda, mirror + "rocky/9/BaseOS/x86_64/os", anaconda.with(memory{"treeinfo": treeinfo("Rocky Linux", "Rocky Linux", "9.5")})},
		"fedora-netinst": {Anaconda, "file:///srv/Fedora-Server-netinst-x86_64-41-1.4.iso", anaconda.with(memory{".discinfo": "1729780000.000000\n41\nx86_64\n"})},
		"rocky-boot":     {Anaconda, "file:///srv/Rocky-9.5-x86_64-boot.iso", anaconda.with(memory{".discinfo": "1731715200.123456\nRocky Linux 9.5\nx86_64\n1,2\n"})},
		"no-discinfo":    {Anaconda, mirror + "os", anaconda},
		"leap":           {SUSE, mirror + "distribution/leap/15.6/repo/oss/", suse},
		"leap-treeinfo":  {SUSE, mirror + "leap", suse.with(memory{".treeinfo": treeinfo("openSUSE Leap", "openSUSE Leap", "15.6")})},
		"opensuse-old":   {SUSE, mirror + "x86_64", memory{"content": "LABEL openSUSE 13.1\nDISTRO cpe:/o:opensuse:opensuse:13.1\nHASH SHA256 " + kernelSum + "  boot/x86_64/loader/linux\n", "boot/x86_64/loader/linux": "k", "boot/x86_64/loader/initrd": "i"}},
		"ubuntu-server":  {Casper, "file:///srv/ubuntu-24.04-live-server-amd64.iso", memory{".disk/info": "Ubuntu-Server 24.04.1 LTS \"Noble Numbat\" - Release amd64 (20240827)\n", "casper/vmlinuz": "k", "casper/initrd": "i"}},
	}
}

func TestFind(t *testing.T) {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(examples())) {
		e := examples()[name]
		found, err := Find(e.kind, e.location, e.files)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		fmt.Fprintf(&text, "%s: %s %q %s\n  kernel   %s %s\n  initrd   %s %s\n  document %s\n",
			name, found.Kind, found.Name, found.Arch, found.Kernel.Path, found.Kernel.Digest.Short(), found.Initrd.Path, found.Initrd.Digest.Short(), found.Document)
		if found.Document != "" && string(found.Text) != e.files[found.Document] {
			t.Errorf("%s: the text is not that of %s", name, found.Document)
		}
	}
	peer.Golden(t, "trees", []byte(text.String()))
}

func TestAWrongTreeIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		kind  Kind
		files memory
		want  string
	}{
		"an Alma for preseed":      {Debian, examples()["almalinux"].files, `this is a tree of AlmaLinux 9.5, for install "kickstart"`},
		"a live server":            {Debian, examples()["ubuntu-server"].files, `for install "autoinstall"`},
		"a Leap for kickstart":     {Anaconda, examples()["leap-treeinfo"].files, `this is a tree of openSUSE Leap 15.6, for install "autoyast"`},
		"a Debian for autoyast":    {SUSE, examples()["debian"].files, `for install "preseed"`},
		"nothing":                  {Anaconda, memory{"index.html": ""}, "there is no .treeinfo, no treeinfo, no images/pxeboot/vmlinuz"},
		"nothing of Debian":        {Debian, memory{}, ", nor at "},
		"a kernel alone":           {Casper, memory{"casper/vmlinuz": ""}, "no casper/initrd"},
		"a server that is down":    {Debian, memory{"linux": "broken"}, "no answer"},
		"a kernel outside":         {Anaconda, memory{".treeinfo": "[general]\narch=x\n[images-x]\nkernel=../../etc/shadow\ninitrd=i\n"}, "no kernel and initrd within the tree"},
		"a kernel elsewhere":       {Anaconda, memory{".treeinfo": "[general]\narch=x\n[images-x]\nkernel=%2e%2e/x\ninitrd=i\n"}, "no kernel and initrd within the tree"},
		"a treeinfo of nothing":    {Anaconda, memory{".treeinfo": "\xff\x00[[["}, "images-"},
		"a treeinfo that is large": {Anaconda, memory{".treeinfo": strings.Repeat("x", maxInfo+1)}, "too large"},
	} {
		_, err := Find(c.kind, "", c.files)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestWeakChecksumsVouchForNothing(t *testing.T) {
	weak := strings.ReplaceAll(treeinfo("Fedora", "Fedora", "20"), "sha256:"+kernelSum, "sha1:"+kernelSum[:40])
	found, err := Find(Anaconda, "", examples()["fedora"].files.with(memory{".treeinfo": weak}))
	if err != nil || found.Kernel.Digest != "" || found.Initrd.Digest != digest.Digest(initrdSum) {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestArchive(t *testing.T) {
	for location, want := range map[string]string{
		"http://m.invalid/debian/dists/bookworm/main/installer-amd64/":                 "http://m.invalid/debian bookworm main/installer-amd64",
		"http://m.invalid:81/dists/sid/main/installer-arm64/current/images":            "http://m.invalid:81 sid main/installer-arm64/current/images",
		"file:///srv/a%20b/dists/bookworm-proposed-updates/main/installer-amd64/20240": "file:///srv/a%20b bookworm-proposed-updates main/installer-amd64/20240",
		"http://m.invalid/debian/dists/bookworm/":                                      "",
		"http://m.invalid/installer-amd64/":                                            "",
		":":                                                                            "",
	} {
		mirror, suite, root, ok := Archive(location)
		if got := strings.TrimSpace(mirror + " " + suite + " " + root); got != want || ok != (want != "") {
			t.Errorf("%s: %q, want %q", location, got, want)
		}
	}
}

func TestRuns(t *testing.T) {
	for arch, want := range map[string]bool{"amd64": true, "x86_64": true, "i386": true, "i586": true, "": true, "aarch64": false, "arm64": false, "ppc64le": false, "s390x": false} {
		if err := (Tree{Arch: arch}).Runs(); (err == nil) != want || err != nil && err.Error() != "the tree is for "+arch+"; herdbook's machines are x86_64" {
			t.Errorf("%s: %v", arch, err)
		}
	}
	arm := memory{".disk/info": "Ubuntu-Server 24.04.1 LTS \"Noble Numbat\" - Release arm64 (20240827)\n", "casper/vmlinuz": "k", "casper/initrd": "i"}
	if found, err := Find(Casper, "", arm); err != nil || found.Arch != "arm64" {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"Fedora 41": "Fedora 41", "Débian \"x\"": "Débian \"x\"", "a\x1b[31mb\n\tc\u202e\u0085": "a[31mbc", strings.Repeat("ü", 101): strings.Repeat("ü", 100),
	} {
		if got := plain(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	info := strings.ReplaceAll(treeinfo("Fedora", "Fed\x1bora", "41"), "x86_64", "x86\x07_64")
	found, err := Find(Anaconda, "", examples()["fedora"].files.with(memory{".treeinfo": info}))
	if err != nil || found.Name != "Fedora 41" || found.Arch != "x86_64" {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestInside(t *testing.T) {
	for name, want := range map[string]string{
		"./a/b": "a/b", "a/./b/../c": "a/c", "a b/ü+~:@&=c": "a b/ü+~:@&=c", "": "", ".": "", "..": "", "/a": "", "../a": "", "a/../../b": "",
		"%2e%2e/a": "", "a?b": "", "a#b": "", `..\a`: "", "a\nb": "", "a\x7f": "", "a\u0085b": "", "\xff": "",
	} {
		if got := inside(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// belowBase checks that the address made of a path is that path's below its base,
// whether it is escaped or not.
func belowBase(t *testing.T, name string) {
	t.Helper()
	for _, text := range []string{name, (&url.URL{Path: name}).EscapedPath()} {
		u, err := url.Parse("http://mirror.invalid/base/" + text)
		if err != nil || u.Host != "mirror.invalid" || path.Clean(u.Path) != "/base/"+name || u.RawQuery+u.Fragment != "" {
			t.Errorf("%q leads to %v, %v", name, u, err)
		}
	}
}

func TestRoot(t *testing.T) {
	const images = "http://m.invalid/dists/bookworm/main/installer-amd64/current/images"
	for location, want := range map[string]string{
		images: images, images + "/": images + "/", images + "/netboot": images, images + "/netboot/": images,
		images + "/netboot/debian-installer": images, images + "/netboot/ubuntu-installer/": images, images + "/netboot/debian-installer/amd64/": images,
		"file:///a/current/legacy-images/netboot/":        "file:///a/current/legacy-images",
		images + "/netboot/gtk/debian-installer/amd64/":   images + "/netboot/gtk/debian-installer/amd64/",
		images + "/netboot/debian-installer/amd64/mine/x": images + "/netboot/debian-installer/amd64/mine/x",
		"http://m.invalid/netboot/":                       "http://m.invalid/netboot/",
		images + "/netbooted":                             images + "/netbooted",
	} {
		if got := Root(location); got != want {
			t.Errorf("%s: %s, want %s", location, got, want)
		}
	}
}

// Whatever a tree says, it names nothing outside of itself.
func FuzzFind(f *testing.F) {
	for name, e := range examples() {
		f.Add(string(e.kind), name, e.files[".treeinfo"], e.files["CHECKSUMS"])
	}
	f.Fuzz(func(t *testing.T, kind, location, info, list string) {
		files := memory{
			".treeinfo": info, "CHECKSUMS": list, "content": list, "current/images/SHA256SUMS": list, ".disk/info": info, "media.1/products": list,
			"boot/x86_64/linux": "", "boot/x86_64/initrd": "", "current/images/netboot/debian-installer/amd64/linux": "",
			"current/images/netboot/debian-installer/amd64/initrd.gz": "",
		}
		found, err := Find(Kind(kind), location, files)
		if err != nil {
			return
		}
		for _, file := range []File{found.Kernel, found.Initrd} {
			if !fs.ValidPath(file.Path) || file.Path == "." {
				t.Errorf("%q is no path in a tree", file.Path)
			}
			belowBase(t, file.Path)
			if plain(found.Name) != found.Name || plain(found.Arch) != found.Arch {
				t.Errorf("it calls itself %q, for %q", found.Name, found.Arch)
			}
			if _, err := digest.Parse(string(file.Digest)); file.Digest != "" && err != nil {
				t.Error(err)
			}
		}
	})
}
