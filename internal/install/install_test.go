package install

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"

	"herdbook/internal/definition"
	"herdbook/internal/op"
	"herdbook/internal/peer"
)

// asked is an installation with everything that a definition can say.
func asked(kind string) definition.Install {
	return definition.Install{
		Kind: kind, Answers: op.Secret{Value: "the answers\n"}, Arguments: []string{"quiet", "---", "console=tty0"},
		Files: []definition.InitrdFile{{Path: "/extra", Inputs: []definition.Input{
			{Name: ".", Path: "/host/extra", Mode: "drwx------"},
			{Name: "late.sh", Path: "/host/extra/late.sh", Mode: "-rwxr-x---", Size: 3},
			{Name: "link", Path: "/host/extra/link", Link: "late.sh", Mode: "L---------"},
		}}},
		MirrorProxy: "http://proxy.invalid:3128",
	}
}

// write writes a session for a golden.
func (s Session) write(w io.Writer) {
	fmt.Fprintf(w, "kernel  %s\nlog     %s\n", s.CommandLine, s.Log)
	for _, what := range []string{"initrd", "seed"} {
		files := map[string][]File{"initrd": s.Files, "seed": s.Seed}[what]
		for _, f := range files {
			fmt.Fprintf(w, "%s  %o %s %s\n", what, f.Mode, f.Path, f.From)
			for line := range strings.Lines(string(f.Data)) {
				fmt.Fprintf(w, "    %s", line)
			}
			if len(f.Data) > 0 && !strings.HasSuffix(string(f.Data), "\n") {
				fmt.Fprintln(w)
			}
		}
	}
}

func TestSessions(t *testing.T) {
	for name, c := range map[string]struct {
		kind  string
		place Place
	}{
		"preseed":        {"preseed", Place{Proxy: "http://proxy.invalid:3128"}},
		"preseed-uefi":   {"preseed", Place{}},
		"preseed-cache":  {"preseed", Place{Proxy: "http://10.0.2.2:3142"}},
		"kickstart":      {"kickstart", Place{Tree: "http://mirror.invalid/os", Proxy: "http://proxy.invalid:3128"}},
		"kickstart-disc": {"kickstart", Place{Disc: "AlmaLinux 9 5"}},
		"autoinstall":    {"autoinstall", Place{Disc: "Ubuntu-Server 24.04.1 LTS amd64"}},
		"autoyast":       {"autoyast", Place{Tree: "http://mirror.invalid/leap"}},
		"autoyast-disc":  {"autoyast", Place{Disc: "openSUSE-Leap-15.6-DVD-x86_64710"}},
	} {
		asked := asked(c.kind)
		if strings.HasSuffix(name, "-uefi") {
			asked.Firmware = "uefi"
		}
		s, err := New(asked, c.place)
		if err != nil {
			t.Fatal(err)
		}
		ownPlaces(t, s)
		var text strings.Builder
		s.write(&text)
		peer.Golden(t, "sessions/"+name, []byte(text.String()))
	}
	if _, err := New(asked("floppy"), Place{}); err == nil {
		t.Error("there is an installer that nobody knows")
	}
}

// ownPlaces checks that no definition can lay a file over one of the session's own.
func ownPlaces(t *testing.T, s Session) {
	t.Helper()
	for _, f := range s.Files {
		if !strings.HasPrefix(f.Path, "/extra") && !slices.Contains(definition.ReservedFiles, f.Path) {
			t.Errorf("%s is not reserved", f.Path)
		}
	}
}

// The archive is what the kernel takes: root's, with the right modes, and the
// same each time; and nothing that may be a link already is written over.
func TestArchive(t *testing.T) {
	s, err := New(asked("preseed"), Place{})
	peer.Must(t, err)
	first, err := Archive(s.Files)
	peer.Must(t, err)
	again, err := Archive(s.Files)
	peer.Must(t, err)
	if string(first) != string(again) {
		t.Error("the same files make other bytes")
	}
	if len(first)%4 != 0 {
		t.Errorf("%d bytes are no multiple of four", len(first))
	}
	var text strings.Builder
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(strings.NewReader(string(first))))
	peer.Must(t, err)
	for _, r := range records {
		fmt.Fprintf(&text, "%06o %d:%d %d %s\n", r.Mode, r.UID, r.GID, r.FileSize, r.Name)
	}
	peer.Golden(t, "archive", []byte(text.String()))
}

func TestParents(t *testing.T) {
	for name, want := range map[string][]string{
		"opt/it/late.sh": {"opt", "opt/it"}, "srv/x": {"srv"}, "tmp/a/b": {"tmp/a"}, "lib/a/b": {"lib/a"}, "ks.cfg": nil,
	} {
		if got := parents(name); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestMayCache(t *testing.T) {
	for answers, want := range map[string]bool{
		"d-i mirror/http/proxy string http://a:1\n":             false,
		"x\nd-i  mirror/http/proxy  string  b\n":                false,
		"d-i mirror/http/proxy string\nd-i x string y":          true,
		"# d-i mirror/http/proxy string http://a":               true,
		"d-i mirror/http/hostname string 10.0.2.2:8080":         false,
		"d-i mirror/http/hostname string mirror110.0.2.example": true,
		"d-i mirror/http/hostname string mirror.example:40000":  false,
		"d-i mirror/http/hostname string mirror.example:8080":   true,
		"": true,
	} {
		if got := MayCache(definition.Install{Kind: "preseed", Answers: op.Secret{Value: answers}}); got != want {
			t.Errorf("%q: %v", answers, got)
		}
	}
	for name, i := range map[string]definition.Install{
		"another installer":  {Kind: "kickstart"},
		"a proxy":            {Kind: "preseed", MirrorProxy: "http://a:1"},
		"an argument":        {Kind: "preseed", Arguments: []string{"quiet", "mirror/http/proxy=http://a:1"}},
		"the host's address": {Kind: "preseed", Arguments: []string{"mirror/http/hostname=10.0.2.2"}},
	} {
		if MayCache(i) {
			t.Error(name)
		}
	}
}
