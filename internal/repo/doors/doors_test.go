package doors

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"herdbook/internal/peer"
	"herdbook/internal/repo"
	"herdbook/internal/repo/streams"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// artefact is a file whose content is its name.
func artefact(kind, file string) repo.Artefact {
	return repo.Artefact{
		Kind: kind, File: file, Size: int64(len(file)),
		SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(file))), SHA512: fmt.Sprintf("%x", sha512.Sum512([]byte(file))),
	}
}

// publish adds a revision of an image with the kinds of files.
func publish(t testing.TB, x repo.Index, e repo.Entry, channel string, kinds ...string) repo.Index {
	t.Helper()
	for _, kind := range kinds {
		e.Artefacts = append(e.Artefacts, artefact(kind, fmt.Sprintf("images/%s-%s-%d.%s", e.Image, e.Arch, len(x.Entries), kind)))
	}
	if len(e.Artefacts) > 0 {
		e.File, e.Checksum = e.Artefacts[0].File, e.Artefacts[0].SHA512
	}
	x, _, err := x.Publish(e, channel, noon.Add(time.Duration(len(x.Entries))*time.Hour))
	peer.Must(t, err)
	return x
}

// herd has several images: web in two architectures and two channels, after a
// rollback; db, which is stable only; and one that herdbook did not publish.
func herd(t testing.TB) repo.Index {
	t.Helper()
	x := repo.Index{Header: repo.Header{Version: 9, Signed: noon}, Entries: []repo.Entry{
		{ID: "old", Arch: "x86_64", File: "old one.xz", Revision: 3, Checksum: strings.Repeat("ab", 64)},
	}}
	all := []string{"qcow2", "xz", "box.libvirt", "kernel", "initrd", "manifest"}
	web := repo.Entry{Name: "Web server", Arch: "x86_64", OSInfo: "debian12", Notes: "A \"web\" server.\nSecond line.", Facts: repo.Facts{Image: "web", Cmdline: "root=UUID=1234 ro quiet"}}
	x = publish(t, x, web, repo.Stable, all...)
	x = publish(t, x, web, repo.Stable, append(all, "box.virtualbox")...)
	x = publish(t, x, web, "testing", all...)
	x = publish(t, x, web, repo.Stable, all...)
	arm := web
	arm.Arch = "aarch64"
	x = publish(t, x, arm, repo.Stable, all...)
	x = publish(t, x, repo.Entry{Arch: "x86_64", Facts: repo.Facts{Image: "db", Cmdline: "root=/dev/vda1 console=hvc0"}}, repo.Stable, "qcow2", "kernel", "initrd")
	x = publish(t, x, repo.Entry{Arch: "x86_64", Facts: repo.Facts{Image: "small"}}, "testing", "qcow2", "box.libvirt")
	x, _, err := x.Rollback(repo.Selector{Image: "web", Arch: "x86_64"})
	peer.Must(t, err)
	return x
}

func TestFiles(t *testing.T) {
	x := herd(t)
	files, err := Files(located(x, "https://images.example.org/a herd/"))
	peer.Must(t, err)
	var names []string
	for _, f := range files {
		names = append(names, fmt.Sprint(f.Name, " ", f.Sign))
		if !Is(f.Name) {
			t.Errorf("%s is not known for a derived file", f.Name)
		}
		peer.Golden(t, strings.ReplaceAll(f.Name, "/", "_"), f.Text)
	}
	want := []string{
		"streams/v1/images.json false", "streams/v1/images.sjson true", "streams/v1/index.json false", "streams/v1/index.sjson true",
		"vagrant/small-testing.json false", "vagrant/web.json false", "vagrant/web-testing.json false",
		"boot.ipxe false", "SHA256SUMS false", "SHA512SUMS false",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	again, err := Files(located(x, "https://images.example.org/a herd/"))
	if diff := cmp.Diff(files, again); err != nil || diff != "" {
		t.Errorf("other bytes: %v %s", err, diff)
	}
	for _, e := range x.Entries {
		for _, name := range append(e.Files(), repo.IndexName, repo.SignedIndexName, repo.KeyName) {
			if Is(name) {
				t.Errorf("%s is taken for a derived file", name)
			}
		}
	}
}

func TestWithoutAPlaceThereIsNoCatalogue(t *testing.T) {
	files, err := Files(located(herd(t), ""))
	for _, f := range files {
		if strings.HasPrefix(f.Name, VagrantDir) {
			t.Error(f.Name)
		}
	}
	if len(files) != 7 || err != nil {
		t.Error(len(files), err)
	}
	if files, err = Files(located(repo.Index{}, "file:///srv")); err != nil || len(files) != 6 {
		t.Errorf("of an empty index: %d files, %v", len(files), err)
	}
}

func TestWhatAFormatCannotTellIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*repo.Entry)
		want   string
	}{
		"an image of two lines":      {func(e *repo.Entry) { e.Image = "a\nb" }, "cannot be the name of an image"},
		"an image above":             {func(e *repo.Entry) { e.Image = "../x" }, "cannot be the name of an image"},
		"a hidden image":             {func(e *repo.Entry) { e.Image = ".x" }, "cannot be the name of an image"},
		"an image like an option":    {func(e *repo.Entry) { e.Image = "-x" }, "cannot be the name of an image"},
		"an architecture of blanks":  {func(e *repo.Entry) { e.Arch = "x86_64 " }, "or of an architecture"},
		"a channel of words":         {func(e *repo.Entry) { e.Channels = []string{"a b"} }, "cannot be the name of a channel"},
		"a kind with a slash":        {func(e *repo.Entry) { e.Artefacts[0].Kind = "box./x" }, "cannot be the kind"},
		"a file of two lines":        {func(e *repo.Entry) { e.Artefacts[0].File = "a\nb" }, "cannot be the name of a file"},
		"a file above":               {func(e *repo.Entry) { e.Artefacts[0].File = "../x" }, "cannot be the name of a file"},
		"the image's file above":     {func(e *repo.Entry) { e.File = "/x" }, "cannot be the name of a file"},
		"two checksums of one file":  {func(e *repo.Entry) { e.Artefacts[1].File = e.Artefacts[0].File }, "has two checksums"},
		"no checksum":                {func(e *repo.Entry) { e.Artefacts[0].SHA256 = "x\ny" }, "is no checksum"},
		"a command for iPXE":         {func(e *repo.Entry) { e.Cmdline = "ro || shell" }, `"||" cannot be a word`},
		"another one":                {func(e *repo.Entry) { e.Cmdline = "ro && shell" }, `"&&" cannot be a word`},
		"a third one":                {func(e *repo.Entry) { e.Cmdline = "ro ; shell" }, `";" cannot be a word`},
		"a setting of iPXE":          {func(e *repo.Entry) { e.Cmdline = "ro x=${password}" }, "cannot be a word"},
		"a comment":                  {func(e *repo.Entry) { e.Cmdline = "ro #x" }, "cannot be a word"},
		"a second line":              {func(e *repo.Entry) { e.Cmdline = "ro\nshell" }, "cannot be a word"},
		"a tab":                      {func(e *repo.Entry) { e.Cmdline = "ro\t||\tshell" }, "cannot be a word"},
		"a line that goes on":        {func(e *repo.Entry) { e.Cmdline = `ro\` }, "cannot be a word"},
		"a kernel beyond ASCII":      {func(e *repo.Entry) { e.Artefacts[0].File = "images/é" }, "cannot be the name of a file that iPXE loads"},
		"a command line without end": {func(e *repo.Entry) { e.Cmdline = strings.Repeat("a", maxWords) }, "more than the 1500"},
	} {
		x := publish(t, repo.Index{}, repo.Entry{Arch: "x86_64", Facts: repo.Facts{Image: "web"}}, repo.Stable, "kernel", "initrd")
		c.change(&x.Entries[0])
		if files, err := Files(located(x, "")); err == nil || !strings.Contains(err.Error(), c.want) || files != nil {
			t.Errorf("%s: %v, %d files", name, err, len(files))
		}
	}
	// Two catalogues of one name, which package repo would not let come up.
	x := publish(t, repo.Index{}, repo.Entry{Arch: "x86_64", Facts: repo.Facts{Image: "web"}}, "testing", "box.libvirt")
	y := publish(t, repo.Index{}, repo.Entry{Arch: "x86_64", Facts: repo.Facts{Image: "web-testing"}}, repo.Stable, "box.libvirt")
	x.Entries = append(x.Entries, y.Entries...)
	if _, err := Files(located(x, "file:///")); err == nil || !strings.Contains(err.Error(), "vagrant/web-testing.json would stand for two images") {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"ftp://x/":              "want a URL of http",
		"images.example.org":    "want a URL of http",
		"https://":              "want a URL of http",
		"https://a:secret@b/c":  "want no user",
		"https://a/?token=b":    "want no user",
		"https://a/#b":          "want no user",
		"https://a b/":          "not a URL",
		"https://a/\x00":        "not a URL",
		"file://srv":            "want a URL of http",
		"file:srv":              "want a URL of http",
		"javascript:alert('x')": "want a URL of http",
	} {
		if _, err := Files(located(repo.Index{}, text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestNamesStayNamesInTheMenu(t *testing.T) {
	for name, want := range map[string]string{
		"Web server":                     "Web server",
		"a\nshell\n":                     "a shell",
		"a && shell":                     "a ?? shell",
		"a || shell ; b #c":              "a ?? shell ? b ?c",
		"${password} \\":                 "??password? ?",
		"ü\x00\x1b[1m\u2028x":            "? [1m?x",
		strings.Repeat("long ", 30):      strings.Repeat("long ", 10),
		"  \t ":                          "",
		"net0/mac:${net0/mac:hexhyp} $$": "net0/mac:??net0/mac:hexhyp? ??",
	} {
		if got := legible(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	for path, want := range map[string]string{
		"images/web-1.kernel": "images/web-1.kernel",
		"-a b/${c}/d&&#?%":    "%2Da%20b/%24%7Bc%7D/d%26%26%23%3F%25",
		"http:/x/ü":           "http%3A/x/%C3%BC",
	} {
		if got := escape(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

func TestCoreutilsAgreeOnTheChecksums(t *testing.T) {
	peer.NeedTool(t, "sha256sum", "sha512sum")
	x := herd(t)
	x.Entries = slices.DeleteFunc(x.Entries, func(e repo.Entry) bool { return e.Image == "" })
	strange := repo.Entry{Arch: "x86_64", Facts: repo.Facts{Image: "strange"}}
	for i, file := range []string{"images/ a  b", "-c", "*d", "images/é ☃", "#e", "f:g", "SHA512 (h) = 00", "i\u00a0j "} {
		strange.Artefacts = append(strange.Artefacts, artefact(fmt.Sprintf("box.n%d", i), file))
	}
	x = publish(t, x, strange, repo.Stable)
	dir := t.TempDir()
	write(t, dir, x, "")
	for name, tool := range map[string]string{SHA256Name: "sha256sum", SHA512Name: "sha512sum"} {
		c := exec.Command(tool, "--check", "--strict", name)
		c.Dir = dir
		out, err := c.CombinedOutput()
		if n := strings.Count(string(out), ": OK\n"); err != nil || n != len(named(x)) {
			t.Errorf("%s: %v, %d of %d files\n%s", name, err, n, len(named(x)), out)
		}
	}
	peer.Must(t, os.WriteFile(filepath.Join(dir, "*d"), []byte("other"), 0o644))
	c := exec.Command("sha512sum", "--check", "--strict", SHA512Name)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "*d: FAILED") {
		t.Errorf("%v\n%s", err, out)
	}
}

// named are the files that an index names.
func named(x repo.Index) map[string]bool {
	files := map[string]bool{}
	for _, e := range x.Entries {
		for _, file := range e.Files() {
			files[file] = true
		}
	}
	delete(files, "")
	return files
}

// write writes the files of an index and what is derived of it.
func write(t testing.TB, dir string, x repo.Index, o string) {
	t.Helper()
	put := func(name string, text []byte) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		peer.Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		peer.Must(t, os.WriteFile(path, text, 0o644))
	}
	for file := range named(x) {
		put(file, []byte(file))
	}
	files, err := Files(located(x, o))
	peer.Must(t, err)
	for _, f := range files {
		if !f.Sign {
			put(f.Name, f.Text)
		}
	}
}

var loads = regexp.MustCompile(`(?m)^(?:kernel|initrd --name initrd) (\S+)`)

// leadsTo are the files that a derived file leads to, relative to the index.
func leadsTo(t testing.TB, f File, base string) []string {
	t.Helper()
	var files []string
	unescape := func(text string) {
		file, err := url.PathUnescape(text)
		peer.Must(t, err)
		files = append(files, file)
	}
	switch {
	case strings.HasPrefix(f.Name, "streams/v1/index."):
	case strings.HasPrefix(f.Name, "streams/"):
		for _, m := range regexp.MustCompile(`"path": (".*")`).FindAllSubmatch(f.Text, -1) {
			var file string
			peer.Must(t, json.Unmarshal(m[1], &file))
			files = append(files, file)
		}
	case strings.HasPrefix(f.Name, VagrantDir):
		var c catalogue
		peer.Must(t, json.Unmarshal(f.Text, &c))
		for _, v := range c.Versions {
			for _, p := range v.Providers {
				file, ok := strings.CutPrefix(p.URL, base)
				if !ok {
					t.Fatalf("%s leads to %s", f.Name, p.URL)
				}
				unescape(file)
			}
		}
	case f.Name == MenuName:
		for _, m := range loads.FindAllSubmatch(f.Text, -1) {
			unescape(string(m[1]))
		}
	default:
		for line := range strings.Lines(string(f.Text)) {
			_, file, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
			files = append(files, file)
		}
	}
	return files
}

// TestEveryDoorLeadsIntoTheIndex: what is derived names nothing that the index does
// not, the bytes are the same each time, and no line of the menu is one that a value
// made.
func TestEveryDoorLeadsIntoTheIndex(t *testing.T) {
	command := regexp.MustCompile(`^($|#!ipxe$|:[\w.-]+$|(menu|item|iseq|choose|goto|kernel|initrd|boot|imgfree|prompt|shell|exit)( |$))`)
	rapid.Check(t, func(r *rapid.T) {
		x := repo.Index{Header: repo.Header{Version: 1, Signed: noon}}
		word := rapid.StringOfN(rapid.SampledFrom([]rune(`ab -_%#?&|;$\{}"'<é`)), 1, 8, -1)
		for range rapid.IntRange(0, 6).Draw(r, "revisions") {
			e := repo.Entry{Arch: rapid.SampledFrom([]string{"x86_64", "aarch64"}).Draw(r, "arch"), Name: word.Draw(r, "name") + rapid.String().Draw(r, "more"), Notes: rapid.String().Draw(r, "notes")}
			e.Image, e.Cmdline = rapid.SampledFrom([]string{"web", "db", "a.b_c-d"}).Draw(r, "image"), word.Draw(r, "words")
			for i, kind := range []string{"qcow2", "kernel", "initrd", "box.libvirt", "box.virtualbox"} {
				if rapid.Bool().Draw(r, kind) {
					e.Artefacts = append(e.Artefacts, artefact(kind, fmt.Sprintf("images/%s%d-%d", word.Draw(r, "file"), len(x.Entries), i)))
				}
			}
			if len(e.Artefacts) == 0 {
				continue
			}
			e.File = e.Artefacts[0].File
			var err error
			x, _, err = x.Publish(e, rapid.SampledFrom([]string{repo.Stable, "testing", "canary"}).Draw(r, "channel"), noon)
			peer.Must(t, err)
		}
		const base = "http://example.org/x/"
		files, err := Files(located(x, base))
		if err != nil {
			if files != nil || !strings.Contains(err.Error(), "cannot be") {
				t.Error(err)
			}
			return
		}
		names := named(x)
		for _, f := range files {
			for _, file := range leadsTo(t, f, base) {
				if !names[file] {
					t.Errorf("%s leads to %q, which is not in the index", f.Name, file)
				}
			}
			if f.Name != MenuName {
				continue
			}
			for line := range strings.Lines(string(f.Text)) {
				if !command.MatchString(strings.TrimSuffix(line, "\n")) || strings.Contains(strings.ReplaceAll(strings.ReplaceAll(line, "${buildarch}", ""), "${target}", ""), "${") {
					t.Errorf("a line of the menu: %q", line)
				}
			}
		}
		again, err := Files(located(x, base))
		if diff := cmp.Diff(files, again); err != nil || diff != "" {
			t.Error(err, diff)
		}
	})
}

func TestStreamsOfTheDoorsAreRead(t *testing.T) {
	files, err := Files(located(herd(t), ""))
	peer.Must(t, err)
	for _, f := range files {
		if f.Name == streams.SignedImagesName {
			if entries, err := streams.ParseProducts(f.Text); err != nil || len(entries) != 5 {
				t.Errorf("%d images, %v", len(entries), err)
			}
		}
	}
}

// located is an index that says where it is served.
func located(x repo.Index, location string) repo.Index {
	x.Location = location
	return x
}
