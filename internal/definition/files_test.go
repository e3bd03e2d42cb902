package definition

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/digest"
	"herdbook/internal/peer"
)

func sum(text string) string { return string(digest.Of([]byte(text))) }

// base is the definition of one image that starts by itself.
func base(body string) string {
	return "image \"base\" {\n  bootstrap \"mmdebstrap\" {\n    suite  = \"bookworm\"\n    mirror = \"http://m\"\n  }\n" + body + "\n}\n"
}

// write makes an example of one file.
func write(t *testing.T, text string) example {
	t.Helper()
	e := example{dir: t.TempDir(), options: Options{LookupEnv: func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	}}}
	e.add(t, DefaultFile, text)
	return e
}

func (e example) add(t *testing.T, name, text string) {
	t.Helper()
	peer.Must(t, os.WriteFile(filepath.Join(e.dir, name), []byte(text), 0o644))
}

func TestNoDefinitionIsAnErrorOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none.hcl"), filepath.Join(dir, "none")} {
		if _, err := Load(path, Options{}); !errors.Is(err, ErrNone) {
			t.Errorf("Load(%s): %v, want ErrNone", path, err)
		}
		if _, err := Files(path); !errors.Is(err, ErrNone) {
			t.Errorf("Files(%s): %v, want ErrNone", path, err)
		}
	}
	peer.Must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	if _, err := Load(filepath.Join(dir, "file", "herdbook.hcl"), Options{}); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("a path through a file: %v, want an error that is not ErrNone", err)
	}
}

func TestAFileIsReadAloneAndADirectoryWhole(t *testing.T) {
	e := write(t, base(""))
	e.add(t, "other.hcl", "image \"other\" {\n  from = image.base\n}\n")
	e.add(t, "notes.txt", "{{{")
	for _, c := range []struct {
		path   string
		want   string // Definition.Path below the directory
		images int
	}{
		{".", "", 2},
		{DefaultFile, DefaultFile, 1},
		{"./" + DefaultFile, DefaultFile, 1},
		{e.dir, "", 2},
		{e.dir + "/", "", 2},
		{filepath.Join(e.dir, DefaultFile), DefaultFile, 1},
	} {
		t.Run(c.path, func(t *testing.T) {
			t.Chdir(e.dir)
			d, err := Load(c.path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if d.Dir != e.dir || d.Path != filepath.Join(e.dir, c.want) || len(d.Images) != c.images {
				t.Errorf("Dir %s, Path %s and %d images; want %s, %s and %d", d.Dir, d.Path, len(d.Images), e.dir, filepath.Join(e.dir, c.want), c.images)
			}
		})
	}
}

// The name of a directory is no pattern.
func TestADirectoryMayBeCalledAsAPattern(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b]*")
	peer.Must(t, os.Mkdir(dir, 0o755))
	for _, name := range []string{"b.hcl", "a.hcl", "c.hcl.bak"} {
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
	}
	got, err := Files(dir)
	want := []string{filepath.Join(dir, "a.hcl"), filepath.Join(dir, "b.hcl")}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

// What is wrong is told by the first problem, and how many more there are.
func TestAnErrorOfOneLineCountsTheOthers(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{base("colour = 1"), `herdbook.hcl:6,1-7: Unsupported argument; An argument named "colour" is not expected here.`},
		{base("colour = 1\nform = 2"), `herdbook.hcl:6,1-7: Unsupported argument; An argument named "colour" is not expected here.; and 1 more`},
	} {
		if _, err := write(t, c.text).load(t); err == nil || err.Error() != c.want {
			t.Errorf("the error is %v, want %s", err, c.want)
		}
	}
}

func TestFormatIsStable(t *testing.T) {
	got, err := Format([]byte("image \"a\" {\nfrom=image.b\n  disk {size=\"1G\"}\n}"), "a.hcl")
	if want := "image \"a\" {\n  from = image.b\n  disk { size = \"1G\" }\n}"; err != nil || string(got) != want {
		t.Fatalf("%v: %q, want %q", err, got, want)
	}
	for _, name := range examples(t, "good") {
		files, err := Files(filepath.Join("testdata", "good", name))
		peer.Must(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			peer.Must(t, err)
			once, err := Format(text, file)
			if err != nil {
				t.Errorf("%s: %v", file, err)
			}
			if twice, err := Format(once, file); err != nil || string(twice) != string(once) {
				t.Errorf("%s: formatted twice, it differs: %v\n%s", file, err, cmp.Diff(string(once), string(twice)))
			}
		}
	}
}

func TestFormatRefusesWhatDoesNotParse(t *testing.T) {
	_, err := Format([]byte("a = (\n"), "a.hcl")
	if err == nil || !strings.Contains(text(t, err), "on a.hcl line") {
		t.Errorf("the problem has no place: %v", err)
	}
}
