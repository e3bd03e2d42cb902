package repo

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// herd is an index with every field.
var herd = Index{Header{7, noon, noon.AddDate(0, 3, 0), "https://images.example.org"}, []Entry{
	{
		ID: "debian-12", Name: "Debian 12", OSInfo: "debian12", Arch: "x86_64", File: "debian-12-3.qcow2",
		Checksum: strings.Repeat("0123456789abcdef", 8), Revision: 3, Format: "qcow2", Size: 6 << 30,
		CompressedSize: 312345678, Expand: "/dev/sda2", LVExpand: "/dev/vg/root", Hidden: true, Aliases: []string{"debian", "stable"},
		Notes: "A web server.\n\n[not a section]\nnot=a field\n# not a comment\n  indented",
		Facts: Facts{
			Image: "debian-12", Layer: strings.Repeat("ab", 32), Published: noon, Channels: []string{"stable", "testing"},
			Released:  []Release{{"stable", noon.Add(time.Hour)}, {"testing", noon}},
			Artefacts: []Artefact{{"xz", "images/a.xz", 12, strings.Repeat("a0", 32), strings.Repeat("b1", 64)}},
			Cmdline:   "root=UUID=0b2c7d4e ro",
		},
		Other: []Field{{"notes[de_DE]", "Ein Server.\nZeile 2"}, {"x_empty", ""}},
	},
	{ID: "debian-12", Arch: "aarch64", File: "arm/debian.xz", Revision: 0, Size: 1},
	{ID: "Win_2k.-9", Arch: "x86_64", File: "..hidden/x", Revision: 1, Size: 1},
}}

func TestAnIndexIsWrittenAsVirtBuilderReadsIt(t *testing.T) {
	text := Format(herd)
	peer.Golden(t, "index", text)
	got, err := Parse(text)
	if diff := cmp.Diff(herd, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	peer.NeedTool(t, "virt-index-validate")
	path := filepath.Join(t.TempDir(), "index")
	peer.Must(t, os.WriteFile(path, text, 0o644))
	if out := peer.Run(t, "virt-index-validate", path); !strings.Contains(out, "validated OK") {
		t.Error(out)
	}
}

func TestEmptyIndexesAreRead(t *testing.T) {
	if text := Format(Index{}); len(text) != 0 {
		t.Errorf("%q", text)
	}
	for _, text := range []string{"", "\n", "\n\n# nothing\n\n", "#"} {
		if got, err := Parse([]byte(text)); err != nil || len(got.Entries) != 0 {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
}

// minimal is a section with what each must have.
const minimal = "[x]\narch=x86_64\nfile=x\n"

// TestParseFollowsTheGrammar holds Parse against facts about virt-builder's
// scanner.
func TestParseFollowsTheGrammar(t *testing.T) {
	x := Entry{ID: "x", Arch: "x86_64", File: "x", Revision: 1}
	with := func(change func(*Entry)) []Entry {
		e := x
		change(&e)
		return []Entry{e}
	}
	for name, c := range map[string]struct {
		text string
		want []Entry
	}{
		"revision is 1":                  {minimal, []Entry{x}},
		"no end of line":                 {strings.TrimSuffix(minimal, "\n"), []Entry{x}},
		"comments in column 0 anywhere":  {"# a\n[x]\n#b\narch=x86_64\n#[y]\nfile=x\n#", []Entry{x}},
		"empty lines in a section":       {"[x]\n\narch=x86_64\n\n\nfile=x\n\n", []Entry{x}},
		"no empty line between sections": {minimal + strings.Replace(minimal, "[x]", "[y]", 1), append(with(func(*Entry) {}), Entry{ID: "y", Arch: "x86_64", File: "x", Revision: 1})},
		"blanks behind a section":        {strings.Replace(minimal, "[x]", "[x] \t", 1), []Entry{x}},
		"blanks of values stay":          {minimal + "name= a  \n", with(func(e *Entry) { e.Name = " a  " })},
		"equals signs in values":         {minimal + "name=a=b==\n", with(func(e *Entry) { e.Name = "a=b==" })},
		"one blank less to continue":     {minimal + "notes=a\n b\n\t\tc\n   d\n", with(func(e *Entry) { e.Notes = "a\nb\n\tc\n  d" })},
		"a field goes on as nothing":     {minimal + "notes=a\n \n b\n", with(func(e *Entry) { e.Notes = "a\n\nb" })},
		"the same, as it is verified":    {minimal + "notes=a\n\n b\n", with(func(e *Entry) { e.Notes = "a\n\nb" })},
		"what continues is no section":   {minimal + "notes=a\n [y]\n #b\n name=c\n", with(func(e *Entry) { e.Notes = "a\n[y]\n#b\nname=c" })},
		"a comment within":               {minimal + "notes=a\n# no\n b\n", with(func(e *Entry) { e.Notes = "a\nb" })},
		"subkeys are fields of their own": {minimal + "notes[de]=a\nnotes[fr_FR,x.y]=b\n", with(func(e *Entry) {
			e.Other = []Field{{"notes[de]", "a"}, {"notes[fr_FR,x.y]", "b"}}
		})},
		"unknown fields stay in order": {minimal + "zz=1\naa.b_C=2\nchecksum=3\nchecksum[sha256]=\n", with(func(e *Entry) {
			e.Other = []Field{{"zz", "1"}, {"aa.b_C", "2"}, {"checksum", "3"}, {"checksum[sha256]", ""}}
		})},
		"another arch is another image": {minimal + strings.Replace(minimal, "x86_64", "aarch64", 1), append(with(func(*Entry) {}), Entry{ID: "x", Arch: "aarch64", File: "x", Revision: 1})},
		"numbers":                       {minimal + "revision=0\nsize=9223372036854775807\ncompressed_size=0\n", with(func(e *Entry) { e.Revision, e.Size = 0, 1<<63-1 })},
		"files below":                   {strings.Replace(minimal, "file=x", "file=a/..b/c..d", 1), with(func(e *Entry) { e.File = "a/..b/c..d" })},
	} {
		got, err := Parse([]byte(c.text))
		if diff := cmp.Diff(c.want, got.Entries); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	in := func(old, new string) string { return strings.Replace(minimal, old, new, 1) }
	for name, c := range map[string]struct{ text, want string }{
		"text before a section":     {"\n#\nname=a\n" + minimal, "line 3: want a section"},
		"a continuation before":     {" a\n" + minimal, "line 1: want a section"},
		"a continuation of nothing": {"[x]\n a\n", "line 2: there is nothing that it continues"},
		"the next section's":        {minimal + "\n[y]\n\n a\n", "line 7: there is nothing that it continues"},
		"no field":                  {minimal + "hello\n", `line 4: "hello" is neither`},
		"a blank before equals":     {minimal + "name =a\n", "line 4:"},
		"a dash in a key":           {minimal + "na-me=a\n", "line 4:"},
		"a dash in a subkey":        {minimal + "notes[de-DE]=a\n", "line 4:"},
		"an empty key":              {minimal + "=a\n", "line 4:"},
		"an empty subkey":           {minimal + "notes[]=a\n", "line 4:"},
		"a field twice":             {minimal + "name=a\nsize=1\nname=b\n", "line 6: the field name stands there twice"},
		"a subkey twice":            {minimal + "notes[de]=a\nnotes[de]=b\n", "line 5: the field notes[de] stands there twice"},
		"an empty section":          {"[]\n", "line 1:"},
		"an ID with a slash":        {in("[x]", "[a/b]"), "line 1:"},
		"an ID with a blank":        {in("[x]", "[a b]"), "line 1:"},
		"an open section":           {in("[x]", "[x"), "line 1:"},
		"text behind a section":     {in("[x]", "[x] y"), "line 1:"},
		"a signed message":          {"-----BEGIN PGP SIGNED MESSAGE-----\n\n" + minimal, "line 1:"},
		"a signature":               {minimal + "-----BEGIN PGP SIGNATURE-----\n", "line 4:"},
		"a long line is clipped":    {minimal + strings.Repeat("x", 1000), "line 4: \"" + strings.Repeat("x", 60) + "\" is"},
		"no arch":                   {in("arch=x86_64\n", ""), "[x]: it has no arch"},
		"an empty arch":             {in("x86_64", ""), "[x]: it has no arch"},
		"no file":                   {in("file=x\n", ""), "[x]: file:"},
		"an empty file":             {in("file=x", "file="), "[x]: file:"},
		"the directory itself":      {in("file=x", "file=."), "[x]: file:"},
		"a file above":              {in("file=x", "file=../x"), `[x]: file: "../x" does not stay below the index`},
		"a file above, later":       {in("file=x", "file=a/../../x"), "[x]: file:"},
		"a file with dots":          {in("file=x", "file=a/./x"), "[x]: file:"},
		"an absolute file":          {in("file=x", "file=/etc/passwd"), "[x]: file:"},
		"a URL":                     {in("file=x", "file=https://example.org/x"), "[x]: file:"},
		"an ending slash":           {in("file=x", "file=a/"), "[x]: file:"},
		"no number":                 {minimal + "size=12G\n", `[x]: size: "12G" is no number`},
		"a number with a blank":     {minimal + "revision=1 \n", "[x]: revision:"},
		"a negative number":         {minimal + "revision=-1\n", "[x]: revision:"},
		"a large number":            {minimal + "size=9223372036854775808\n", "[x]: size:"},
		"a large revision":          {minimal + "revision=2147483648\n", "[x]: revision:"},
		"all that is wrong":         {"[x]\nsize=a\nrevision=b\n", "revision: \"b\" is no number\nit has no arch\nfile:"},
		"an image twice":            {minimal + "\n" + minimal, "[x]: it stands there twice for x86_64"},
	} {
		got, err := Parse([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || got.Entries != nil {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}

// TestVirtBuilderAgreesOnTheGrammar asks its own checker where both must be of
// one mind.
func TestVirtBuilderAgreesOnTheGrammar(t *testing.T) {
	peer.NeedTool(t, "virt-index-validate")
	for _, line := range []string{
		"name=a", "name= a ", "notes[de_DE]=a", "notes[de,fr]=a", "x.y_z=a", "notes=a\n b", "# c", "notes=a\n \n b",
		"na-me=a", "name =a", "=a", "notes[]=a", "notes[a-b]=a", "hello", "name", "notes[de=a", "-----BEGIN",
	} {
		text := []byte("[x]\narch=x86_64\nfile=x\nsize=1\n" + line + "\n")
		path := filepath.Join(t.TempDir(), "index")
		peer.Must(t, os.WriteFile(path, text, 0o644))
		out, theirs := exec.Command("virt-index-validate", path).CombinedOutput()
		if _, ours := Parse(text); (ours == nil) != (theirs == nil) {
			t.Errorf("%q: we say %v, they %v %s", line, ours, theirs, out)
		}
	}
}

// someText is a value: a few pieces of what an index is made of.
func someText(r *rand.Rand) string {
	pieces := []string{"a", " ", "\t", "\n", "\n", "#", "=", "[b]", "-", "\r", "ü", "\x00", "\xff", "name=c"}
	var text strings.Builder
	for range r.IntN(9) {
		text.WriteString(pieces[r.IntN(len(pieces))])
	}
	return text.String()
}

func someEntry(r *rand.Rand, id string) Entry {
	e := Entry{
		ID: id, Name: someText(r), OSInfo: someText(r), Arch: "a" + someText(r), File: "dir/file",
		Checksum: someText(r), Revision: r.IntN(3), Format: someText(r), Size: r.Int64() >> r.IntN(64),
		CompressedSize: r.Int64() >> r.IntN(64), Expand: someText(r), Notes: someText(r), LVExpand: someText(r), Hidden: r.IntN(2) == 0,
		Facts: Facts{Image: someText(r), Layer: someText(r), Cmdline: someText(r)},
	}
	for _, key := range []string{"x", "notes[de]", "y.[,_]"}[:r.IntN(4)] {
		e.Other = append(e.Other, Field{key, someText(r)})
	}
	return e
}

func TestEveryIndexComesBackAsItWasWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		var x Index
		for _, id := range []string{"-", "a.b", "C_9"}[:r.IntN(4)] {
			x.Entries = append(x.Entries, someEntry(r, id))
		}
		text := Format(x)
		got, err := Parse(text)
		if diff := cmp.Diff(x, got); err != nil || diff != "" {
			t.Fatalf("%v\n%s\n%q", err, diff, text)
		}
		if empty := bytes.Count(text, []byte("\n\n")); empty != max(0, len(x.Entries)-1) {
			t.Fatalf("%d empty lines between %d sections: %q", empty, len(x.Entries), text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Format(herd))
	f.Add([]byte(minimal + "notes=a\n\n b\n \n\tc\n"))
	f.Add([]byte("[x]\r\narch=a\r\nfile=b\r\n"))
	f.Add([]byte("# \n\n[x]\n"))
	f.Add([]byte(titleLine + "\n# version: 1\n# expires: 2026-01-01T00:00:00.5+01:00\n" + minimal + "herdbook_released[a]=2026-01-01T00:00:00Z\nherdbook_channels=a\tb\n"))
	f.Fuzz(func(t *testing.T, untrusted []byte) {
		entries, err := Parse(untrusted)
		if err != nil {
			return
		}
		text := Format(entries)
		again, err := Parse(text)
		if diff := cmp.Diff(entries, again); err != nil || diff != "" {
			t.Errorf("%v\n%s\n%q", err, diff, text)
		}
		if !bytes.Equal(Format(again), text) {
			t.Errorf("written otherwise: %q", text)
		}
	})
}
