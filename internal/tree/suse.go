package tree

import (
	"path"
	"slices"
	"strings"

	"herdbook/internal/digest"
)

// suseArchs are SUSE's names of architectures.
var suseArchs = []string{"x86_64", "aarch64", "ppc64le", "i586", "i386"}

// findSUSE looks for the kernel where SUSE has had it over the years, and for the
// digests in CHECKSUMS (from 15 on) or in content (before).
func findSUSE(location string, files Files) (Tree, []string, error) {
	t := Tree{Kind: SUSE, Arch: "x86_64"}
	if i := slices.IndexFunc(suseArchs, func(arch string) bool { return strings.Contains(location, arch) }); i >= 0 {
		t.Arch = suseArchs[i]
	}
	boot := path.Join("boot", t.Arch)
	p, looked, err := first(files, []pair{
		{boot + "/loader/linux", boot + "/loader/initrd"}, {boot + "/linux", boot + "/initrd"},
		{"boot/loader/linux64", "boot/loader/initrd64"}, {"boot/loader/linux", "boot/loader/initrd"},
	})
	if err != nil || p == (pair{}) {
		return Tree{}, looked, err
	}
	all := map[string]digest.Digest{}
	for _, document := range []struct {
		name  string
		parse func([]byte) map[string]digest.Digest
	}{{"CHECKSUMS", func(text []byte) map[string]digest.Digest { return sums(text, "") }}, {"content", contentSums}} {
		text, there, err := read(files, document.name, maxDocument)
		if err != nil {
			return Tree{}, nil, err
		}
		if there {
			t.Document, t.Text, t.Signature, all = document.name, text, document.name+".asc", document.parse(text)
			break
		}
	}
	t.take(p, all)
	return t, nil, t.suseName(files)
}

// contentSums reads the lines "HASH SHA256 DIGITS PATH" of a content file.
func contentSums(text []byte) map[string]digest.Digest {
	var plain strings.Builder
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 4 && fields[0] == "HASH" && fields[1] == "SHA256" {
			plain.WriteString(fields[2] + "  " + fields[3] + "\n")
		}
	}
	return sums([]byte(plain.String()), "")
}

// suseName finds out what the tree calls itself: its treeinfo, the second line of
// media.1/products ("/ openSUSE-Leap 15.6-1"), or the label in its content file.
func (t *Tree) suseName(files Files) error {
	_, _, info, err := readTreeinfo(files)
	if t.Name = info.called(); t.Name != "" || err != nil {
		return err
	}
	products, _, err := read(files, "media.1/products", maxInfo)
	if err != nil {
		return err
	}
	if fields := strings.Fields(string(products)); len(fields) >= 3 && fields[0] == "/" {
		t.Name = strings.ReplaceAll(fields[1], "-", " ") + " " + fields[2]
		return nil
	}
	for line := range strings.Lines(string(t.Text)) {
		if label, ok := strings.CutPrefix(line, "LABEL "); ok {
			t.Name = strings.TrimSpace(label)
		}
	}
	return nil
}
