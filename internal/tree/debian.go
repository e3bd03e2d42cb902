package tree

import (
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// debianArchs are Debian's names of architectures with the directory of the
// kernel on their discs.
var debianArchs = map[string]string{
	"amd64": "install.amd", "i386": "install.386", "arm64": "install.a64", "ppc64el": "install", "riscv64": "install",
}

// debianArch takes the architecture out of a location: from "installer-ARCH" or
// "daily-images/ARCH", else from a word of it; else it is amd64.
func debianArch(location string) string {
	if m := regexp.MustCompile(`(?:installer-|daily-images/)([a-z0-9]+)`).FindStringSubmatch(location); m != nil && debianArchs[m[1]] != "" {
		return m[1]
	}
	for _, word := range words(location) {
		if debianArchs[word] != "" {
			return word
		}
		if word == "x86" { // of x86_64
			return "amd64"
		}
	}
	return "amd64"
}

// findDebian looks for a network tree, then for the layout of a disc, then for
// kernel and initrd side by side, as the packages debian-installer-*-netboot have
// them.
func findDebian(location string, files Files) (Tree, []string, error) {
	t := Tree{Kind: Debian, Arch: debianArch(location)}
	kernel := "linux"
	if t.Arch == "ppc64el" {
		kernel = "vmlinux"
	}
	var pairs []pair
	add := func(dir, kernel string) {
		pairs = append(pairs, pair{path.Join(dir, kernel), path.Join(dir, "initrd.gz")})
	}
	for _, images := range []string{"current/images", "current/legacy-images", "daily", "", "install"} {
		for _, brand := range []string{"debian-installer", "ubuntu-installer"} {
			add(path.Join(images, "netboot", brand, t.Arch), kernel)
		}
	}
	for _, brand := range []string{"debian-installer", "ubuntu-installer"} { // within netboot itself
		add(path.Join(brand, t.Arch), kernel)
	}
	for _, dir := range slices.Compact([]string{debianArchs[t.Arch], "install"}) {
		add(dir, "vmlinuz")
		add(dir, "vmlinux")
	}
	add("", kernel)
	add("", "vmlinuz")
	p, looked, err := first(files, pairs)
	if err != nil || p == (pair{}) {
		return Tree{}, looked, err
	}
	images, _, ok := strings.Cut(p.kernel, "netboot/")
	if !ok {
		t.take(p, nil)
		return t, nil, t.discInfo(files)
	}
	t.Document = path.Join(images, "SHA256SUMS")
	text, there, err := read(files, t.Document, maxDocument)
	if err != nil {
		return Tree{}, nil, err
	}
	if !there {
		t.Document = ""
	} else {
		t.Text, t.Signature = text, t.Document+".gpg"
	}
	t.take(p, sums(text, images))
	return t, nil, nil
}

// discInfo reads what a Debian or Ubuntu disc calls itself.
func (t *Tree) discInfo(files Files) error {
	text, _, err := read(files, ".disk/info", maxInfo)
	line, _, _ := strings.Cut(string(text), "\n")
	t.Name = strings.TrimSpace(line)
	return err
}

// findCasper looks for the kernel of a live system.
func findCasper(files Files) (Tree, []string, error) {
	p, looked, err := first(files, []pair{{"casper/vmlinuz", "casper/initrd"}, {"casper/vmlinuz", "casper/initrd.lz"}, {"casper/hwe-vmlinuz", "casper/hwe-initrd"}})
	if err != nil || p == (pair{}) {
		return Tree{}, looked, err
	}
	t := Tree{Kind: Casper}
	t.take(p, nil)
	err = t.discInfo(files)
	if m := released.FindStringSubmatch(t.Name); m != nil {
		t.Arch = m[1]
	}
	return t, nil, err
}

// released is where a disc of Ubuntu's tells its architecture.
var released = regexp.MustCompile(` Release ([a-z0-9]+)\b`)

// archive is where an installer's tree lies in an archive of packages.
var archive = regexp.MustCompile(`^(.*)/dists/([^/]+)/(main/installer-[a-z0-9]+)(?:/(.*))?$`)

// Archive takes the address of a Debian installer's tree apart: the mirror, the
// suite, and the path by which the suite's Release lists the tree's root. The
// Release, which is signed, vouches so for the list of the tree's checksums.
func Archive(location string) (mirror, suite, root string, ok bool) {
	u, err := url.Parse(location)
	if err != nil {
		return "", "", "", false
	}
	m := archive.FindStringSubmatch(path.Clean(u.Path))
	if m == nil {
		return "", "", "", false
	}
	u.Path, u.RawPath = m[1], ""
	return strings.TrimRight(u.String(), "/"), m[2], path.Join(m[3], m[4]), true
}

// netboot is the directory within a Debian installer's tree that people take for the
// tree: the list of checksums lies beside it.
var netboot = regexp.MustCompile(`^(.*images)/netboot(?:/(?:(?:debian|ubuntu)-installer(?:/[^/]*)?/?)?)?$`)

// Root is the address of the tree that a location lies in.
func Root(location string) string {
	if m := netboot.FindStringSubmatch(location); m != nil {
		return m[1]
	}
	return location
}
