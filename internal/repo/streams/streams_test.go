package streams

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
	"herdbook/internal/repo"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// artefact is a file with digests that only have their form.
func artefact(kind, file string, size int64) repo.Artefact {
	digit := fmt.Sprintf("%x", size%16)
	return repo.Artefact{Kind: kind, File: "images/" + file, Size: size, SHA256: strings.Repeat(digit, 64), SHA512: strings.Repeat(digit, 128)}
}

// herd has web in four revisions, of which the first is stable again, the third is
// being tested, and the others are hidden; and an image that herdbook did not publish.
func herd(t testing.TB) repo.Index {
	t.Helper()
	x := repo.Index{
		Header:  repo.Header{Version: 4, Signed: noon},
		Entries: []repo.Entry{{ID: "old", Arch: "x86_64", File: "old.xz", Revision: 3}},
	}
	publish := func(e repo.Entry, channel string, at time.Time) {
		var err error
		x, _, err = x.Publish(e, channel, at)
		peer.Must(t, err)
	}
	web := repo.Entry{Name: `Web "server" <1>`, Arch: "x86_64", OSInfo: "debian12", Size: 1 << 30, Facts: repo.Facts{Image: "web"}}
	web.Artefacts = []repo.Artefact{artefact("qcow2", "web-1.qcow2", 11), artefact("xz", "web-1.xz", 12)}
	publish(web, repo.Stable, noon)
	web.Artefacts = []repo.Artefact{artefact("qcow2", "web-2.qcow2", 21)}
	publish(web, "testing", noon.Add(time.Hour))
	web.Artefacts = []repo.Artefact{
		artefact("qcow2", "web-3.qcow2", 31), artefact("kernel", "web-3.kernel", 32), artefact("initrd", "web-3.initrd", 33),
		artefact("box.libvirt", "web-3.box", 34), artefact("manifest", "web-3.json", 35),
	}
	publish(web, "testing", noon) // the clock went back
	web.Artefacts = []repo.Artefact{artefact("qcow2", "web-4.qcow2", 41)}
	publish(web, repo.Stable, noon.Add(2*time.Hour))
	x, _, err := x.Rollback(repo.Selector{Image: "web"})
	peer.Must(t, err)
	return x
}

func TestFormat(t *testing.T) {
	x := herd(t)
	for name, products := range map[string]string{"index.json": ImagesName, "index.sjson": SignedImagesName} {
		text, err := FormatIndex(x, products)
		peer.Must(t, err)
		peer.Golden(t, name, text)
		if paths, err := ParseIndex(text); err != nil || len(paths) != 1 || paths[0] != products {
			t.Errorf("%s: %q %v", name, paths, err)
		}
	}
	text, err := FormatProducts(x)
	peer.Must(t, err)
	peer.Golden(t, "images.json", text)
	entries, err := ParseProducts(text)
	var got []string
	for _, e := range entries {
		got = append(got, fmt.Sprint(e.ID, e.Aliases, e.Arch, e.File, " ", e.Revision, " ", e.Other[0].Value))
	}
	want := []string{
		"org.herdbook.testing:web:x86_64[web-r3]x86_64images/web-3.qcow2 20260601 20260601130000.000003",
		"org.herdbook:web:x86_64[web-r1]x86_64images/web-1.qcow2 20260601 20260601120000.000001",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestTheNewestRevisionHasTheGreatestVersion(t *testing.T) {
	x := repo.Index{}
	for i := range 12 {
		at := noon.Add(time.Duration(i%4) * time.Second) // it jumps back twice
		e := repo.Entry{Arch: "x86_64", File: "x", Facts: repo.Facts{Image: "web"}}
		var err error
		x, _, err = x.Publish(e, "testing", at)
		peer.Must(t, err)
	}
	last, versions := "", versionsOf(x.Entries)
	for i := range x.Entries {
		version := versions[i+1]
		if version <= last || compareVersions(version, last) <= 0 {
			t.Errorf("%s is not greater than %s", version, last)
		}
		last = version
	}
}

func TestRealProductsAreRead(t *testing.T) {
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		peer.Must(t, err)
		return text
	}
	paths, err := ParseIndex(read("ubuntu-index.json"))
	if diff := cmp.Diff([]string{"streams/v1/com.ubuntu.cloud:released:download.json"}, paths); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for name, want := range map[string][]string{
		"ubuntu.json": {
			"com.ubuntu.cloud:server:22.04:arm64 aarch64 [ubuntu-jammy-22.04-arm64-server-20240426] 20240426 server/releases/jammy/release-20240426/ubuntu-22.04-server-cloudimg-arm64.img",
			"com.ubuntu.cloud:server:24.04:amd64 x86_64 [ubuntu-noble-24.04-amd64-server-20240423.10] 20240423.10 server/releases/noble/release-20240423.10/ubuntu-24.04-server-cloudimg-amd64.img",
		},
		"cirros.json": {
			"net.cirros-cloud:standard:0.3:i386 i386 [cirros-0.3.1-i386] 20130207 0.3.1/cirros-0.3.1-i386-disk.img",
			"net.cirros-cloud:standard:0.3:x86_64 x86_64 [cirros-0.3.1-x86_64] 20130207 0.3.1/cirros-0.3.1-x86_64-disk.img",
		},
	} {
		entries, err := ParseProducts(read(name))
		var got []string
		for _, e := range entries {
			got = append(got, fmt.Sprint(e.ID, " ", e.Arch, " ", e.Aliases, " ", e.Other[0].Value, " ", e.File))
			if a, ok := e.Artefact(DiskKind); !ok || a.File != e.File || a.SHA256 == "" || a.Size != e.CompressedSize || a.Size == 0 || e.Size != 0 || e.Revision < 20130207 {
				t.Errorf("%s: %+v", name, e)
			}
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Error(name, err, diff)
		}
	}
}

// one is a products file with one product, of one version, with one item.
func one(item string) string {
	return `{"format":"products:1.0","products":{"p":{"arch":"amd64","versions":{"1":{"items":{` + item + `}}}}}}`
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	sum := strings.Repeat("a", 64)
	item := func(path, more string) string {
		return one(`"disk.img":{"path":"` + path + `","sha256":"` + sum + `"` + more + `}`)
	}
	for name, c := range map[string]struct{ text, want string }{
		"not JSON":              {"x", "invalid character"},
		"nothing":               {"", "unexpected end"},
		"cut off":               {one("")[:20], "unexpected"},
		"more behind":           {one("") + "{}", "after top-level"},
		"an index":              {`{"format":"index:1.0"}`, `their format is "index:1.0"`},
		"a key twice":           {one(`"disk.img":{},"disk.img":{}`), `"disk.img" stands there twice`},
		"another case":          {item("x", `,"PATH":"y"`), `"PATH" stands there twice`},
		"a letter that is one":  {item("x", `,"\u017fha256":""`), `stands there twice`},
		"a product twice":       {`{"products":{"p":{},"p":{}}}`, `"p" stands there twice`},
		"depth":                 {strings.Repeat("[", 40), "more than 32 levels"},
		"depth of objects":      {strings.Repeat(`{"a":`, 40), "more than 32 levels"},
		"keys":                  {manyKeys(), "more than 1048576 keys"},
		"size":                  {strings.Repeat(" ", MaxText+1), "more than the"},
		"above":                 {item("../x", ""), `"../x" does not stay below`},
		"absolute":              {item("/etc/passwd", ""), "does not stay below"},
		"a URL":                 {item("https://example.org/x", ""), "does not stay below"},
		"no path":               {item("", ""), "does not stay below"},
		"a backslash":           {item(`a\\b`, ""), "does not stay below"},
		"two lines":             {item(`a\nb`, ""), "does not stay below"},
		"a negative size":       {item("x", `,"size":-1`), "its size or its digest"},
		"a short digest":        {item("x", `,"sha512":"ab"`), "its size or its digest"},
		"no digest":             {item("x", `,"sha512":"`+strings.Repeat("z", 128)+`"`), "its size or its digest"},
		"a size that is text":   {item("x", `,"size":"1"`), "cannot unmarshal"},
		"no arch":               {strings.Replace(item("x", ""), "amd64", "", 1), `"" cannot be the name`},
		"an arch of two lines":  {strings.Replace(item("x", ""), "amd64", `a\nb`, 1), "cannot be the name"},
		"a product of blanks":   {strings.Replace(item("x", ""), `"p"`, `"a b"`, 1), "cannot be the name"},
		"a version of an arrow": {strings.Replace(item("x", ""), `"1"`, `"\u001b[1m"`, 1), "cannot be the name"},
	} {
		got, err := ParseProducts([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || got != nil {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	index := func(path string) string {
		return `{"format":"index:1.0","index":{"a":{"format":"products:1.0","datatype":"image-downloads","path":"` + path + `"}}}`
	}
	for name, c := range map[string]struct{ text, want string }{
		"products": {one(""), "its format is"},
		"above":    {index("../x"), "does not stay below"},
		"nothing":  {index(""), "does not stay below"},
		"a URL":    {index("http://x/y"), "does not stay below"},
	} {
		if got, err := ParseIndex([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("index, %s: %q %v", name, got, err)
		}
	}
}

func manyKeys() string {
	var text strings.Builder
	for i := range maxKeys + 1 {
		fmt.Fprintf(&text, `,"%d":1`, i)
	}
	return "{" + text.String()[1:] + "}"
}

func TestWhatIsNoDiskIsLeftOut(t *testing.T) {
	for name, text := range map[string]string{
		"no items":       one(""),
		"another item":   one(`"uefi1.img":{"path":"x","sha256":"ab"}`),
		"no checksum":    one(`"disk.img":{"path":"x","md5":"ab"}`),
		"foreign shapes": one(`"root.tar.gz":[1,"x",{"size":{}}]`),
		"no products":    `{"format":"products:1.0"}`,
	} {
		if got, err := ParseProducts([]byte(text)); err != nil || got != nil {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	rising := []string{
		"0.3.1~pre4", "1", "9", "10", "10.1", "20111020", "20130207", "20240423", "20240423.1", "20240423.9", "20240423.10",
		"20260601120000.000001", "20260601120000.000002", "20270101", "r2", "r10",
	}
	for i, a := range rising {
		for j, b := range rising {
			if got := compareVersions(a, b); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	x := herd(f)
	index, err := FormatIndex(x, ImagesName)
	peer.Must(f, err)
	products, err := FormatProducts(x)
	peer.Must(f, err)
	f.Add(index)
	f.Add(products)
	f.Add([]byte(one(`"disk1.img":{"path":"a/b","sha512":"` + strings.Repeat("0", 128) + `","size":9}`)))
	f.Add([]byte(`{"format":"products:1.0","arch":"arm64","pubname":"q","products":{"p":{"versions":{"2.10":{"items":{}},"2.9":{"arch":"","items":null}}},"q":null}}`))
	f.Fuzz(func(t *testing.T, untrusted []byte) {
		paths, _ := ParseIndex(untrusted)
		for _, path := range paths {
			if !filepath.IsLocal(path) {
				t.Errorf("%q leads out", path)
			}
		}
		entries, _ := ParseProducts(untrusted)
		for _, e := range entries {
			if !filepath.IsLocal(e.File) || e.Arch == "" || e.ID == "" || e.Revision < 0 || len(e.Artefacts) != 1 || strings.ContainsAny(e.ID+e.Arch+strings.Join(e.Aliases, ""), "\n\r\x00 ") {
				t.Errorf("%+v", e)
			}
		}
		if len(paths)+len(entries) > 0 && !json.Valid(untrusted) {
			t.Error("it is no JSON")
		}
	})
}
