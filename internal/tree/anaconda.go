package tree

import (
	"fmt"
	"strings"

	"herdbook/internal/digest"
)

// ini is a treeinfo's sections and their values. A section or a key that stands
// twice has its last value, as Python's ConfigParser has it.
type ini map[string]map[string]string

func parseINI(text []byte) ini {
	all := ini{}
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[' && line[len(line)-1] == ']':
			section = line[1 : len(line)-1]
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				key, value, _ = strings.Cut(line, ":")
			}
			if all[section] == nil {
				all[section] = map[string]string{}
			}
			all[section][strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return all
}

// readTreeinfo reads the tree's description, under either of its names.
func readTreeinfo(files Files) (name string, text []byte, info ini, err error) {
	for _, name := range []string{".treeinfo", "treeinfo"} {
		text, there, err := read(files, name, maxInfo)
		if there || err != nil {
			return name, text, parseINI(text), err
		}
	}
	return "", nil, nil, nil
}

// called is what a treeinfo calls its tree.
func (i ini) called() string {
	general, release := i["general"], i["release"]
	for _, name := range []string{
		strings.TrimSpace(release["name"] + " " + release["version"]),
		general["name"],
		strings.TrimSpace(general["family"] + " " + general["version"]),
	} {
		if name != "" {
			return name
		}
	}
	return ""
}

// digests are a treeinfo's checksums by SHA-256. Weaker ones vouch for nothing.
func (i ini) digests() map[string]digest.Digest {
	all := map[string]digest.Digest{}
	for name, sum := range i["checksums"] {
		algorithm, digits, _ := strings.Cut(sum, ":")
		if d, err := digest.Parse(strings.ToLower(digits)); err == nil && strings.EqualFold(algorithm, "sha256") {
			all[inside(name)] = d
		}
	}
	return all
}

// findAnaconda follows a treeinfo (productmd's format of it; the older ones have
// the same keys): the kernel is told in the section images-ARCH. Without one it
// looks for a disc that boots the installer.
func findAnaconda(files Files) (Tree, []string, error) {
	name, text, info, err := readTreeinfo(files)
	if err == nil && name == "" {
		return findNetinst(files)
	}
	if err != nil {
		return Tree{}, nil, err
	}
	family := info["general"]["family"] + " " + info["release"]["name"]
	if strings.Contains(strings.ToLower(family), "suse") {
		return Tree{}, []string{name + " of Fedora, Red Hat or a descendant"}, nil
	}
	arch := info["general"]["arch"]
	if arch == "" {
		arch = info["tree"]["arch"]
	}
	images := info["images-"+arch]
	p := pair{inside(images["kernel"]), inside(images["initrd"])}
	if p.kernel == "" || p.initrd == "" {
		return Tree{}, nil, fmt.Errorf("read %s: its section images-%s tells no kernel and initrd within the tree", name, plain(arch))
	}
	t := Tree{Kind: Anaconda, Name: info.called(), Arch: arch, Document: name, Text: text}
	t.take(p, info.digests())
	return t, nil, nil
}

// findNetinst looks for the kernel of a disc that only boots the installer
// (boot.iso, netinst): it has no treeinfo. Its .discinfo has a line each for the
// time, the name and the architecture.
func findNetinst(files Files) (Tree, []string, error) {
	p, looked, err := first(files, []pair{{"images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"}})
	if err != nil || p == (pair{}) {
		return Tree{}, append([]string{".treeinfo", "treeinfo"}, looked...), err
	}
	text, _, err := read(files, ".discinfo", maxInfo)
	t := Tree{Kind: Anaconda}
	if lines := strings.Split(string(text), "\n"); len(lines) >= 3 {
		t.Name, t.Arch = strings.TrimSpace(lines[1]), strings.TrimSpace(lines[2])
	}
	t.take(p, nil)
	return t, nil, err
}
