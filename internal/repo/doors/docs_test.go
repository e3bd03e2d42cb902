package doors

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"herdbook/internal/peer"
)

// TestTheDoorsAreDocumented holds the table of docs/repository.md against the files
// that there are.
func TestTheDoorsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.FromSlash("../../../docs/repository.md"))
	peer.Must(t, err)
	_, section, _ := strings.Cut(string(text), "\n## Doors\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]bool{}
	for line := range strings.Lines(section) {
		first, _, isRow := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		if !isRow || !strings.HasPrefix(line, "| `") {
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(first, -1) {
			documented[m[1]] = true
			if !Is(m[1]) {
				t.Errorf("docs/repository.md has %s, which is not derived", m[1])
			}
		}
	}
	files, err := Files(located(herd(t), "file:///srv"))
	peer.Must(t, err)
	for _, f := range files {
		name := strings.NewReplacer("vagrant/web-testing", "vagrant/NAME-CHANNEL", "vagrant/small-testing", "vagrant/NAME-CHANNEL", "vagrant/web", "vagrant/NAME").Replace(f.Name)
		if !documented[name] {
			t.Errorf("docs/repository.md has no row with %s", name)
		}
	}
	all := string(files[0].Text)
	for _, f := range files[1:] {
		all += string(f.Text)
	}
	// What the text promises of names is so.
	for _, name := range []string{"disk1.img", "disk1.img.xz", "boot-kernel", "boot-initrd", "box.libvirt", "manifest.json", "console=tty0 console=ttyS0,115200"} {
		if !strings.Contains(section, "`"+name+"`") || !strings.Contains(all, name) {
			t.Errorf("%s is documented or derived, but not both", name)
		}
	}
}
