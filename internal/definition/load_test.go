package definition

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

// environment is what every example can read; options.json of one may add to it.
// The values are secrets: none may stand in any output.
var environment = map[string]string{
	"TOKEN":         "hunter2-token",
	"ROOT_PASSWORD": "hunter2-root",
	"SIGNING_KEY":   "hunter2-key",
	"EMPTY":         "",
}

// example is a directory of testdata, copied to where its modes are the same whatever the
// umask of the checkout was, and with the links that options.json names: not every way that
// sources take keeps them.
type example struct {
	dir     string
	options Options
	secrets []string
}

func open(t *testing.T, path string) example {
	t.Helper()
	e := example{dir: t.TempDir()}
	peer.Must(t, os.CopyFS(e.dir, os.DirFS(filepath.Join("testdata", path))))
	peer.Must(t, filepath.WalkDir(e.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		mode := fs.FileMode(0o644)
		if stat, err := d.Info(); err != nil || stat.Mode()&0o100 != 0 {
			mode = 0o755
		}
		return os.Chmod(path, mode)
	}))
	var given struct {
		Variables, Environment, Links map[string]string
		VariableFiles                 []string
	}
	if text, err := os.ReadFile(filepath.Join(e.dir, "options.json")); err == nil {
		peer.Must(t, json.Unmarshal(text, &given))
	}
	for name, leadsTo := range given.Links {
		peer.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(e.dir, name)), 0o755))
		peer.Must(t, os.Symlink(leadsTo, filepath.Join(e.dir, name)))
	}
	known := maps.Clone(environment)
	maps.Copy(known, given.Environment)
	for name, value := range known {
		if !strings.HasPrefix(name, VariablePrefix) && value != "" {
			e.secrets = append(e.secrets, value)
		}
	}
	e.options = Options{Variables: given.Variables, VariableFiles: given.VariableFiles, LookupEnv: func(name string) (string, bool) {
		value, ok := known[name]
		return value, ok
	}}
	return e
}

// load reads the example from inside its directory, as a user would.
func (e example) load(t *testing.T) (*Definition, error) {
	t.Helper()
	here, err := os.Getwd()
	peer.Must(t, err)
	peer.Must(t, os.Chdir(e.dir))
	defer func() { peer.Must(t, os.Chdir(here)) }()
	return Load(".", e.options)
}

// hides fails the test if a secret, or a piece of one, stands in a text.
func (e example) hides(t *testing.T, text string) {
	t.Helper()
	for _, secret := range append(e.secrets, "hunter2", "HUNTER2", "private-key-material", "secret-in-a-file") {
		if strings.Contains(text, secret) {
			t.Errorf("the secret %s shows in:\n%s", secret, text)
		}
	}
}

func examples(t *testing.T, kind string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("testdata", kind))
	peer.Must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) < 5 {
		t.Fatalf("only %d examples of %s", len(names), kind)
	}
	return names
}

func TestGoodDefinitionsAreRead(t *testing.T) {
	for _, name := range examples(t, "good") {
		t.Run(name, func(t *testing.T) {
			e := open(t, filepath.Join("good", name))
			d, err := e.load(t)
			if err != nil {
				t.Fatal(text(t, err))
			}
			got := strings.ReplaceAll(dump(d), e.dir, "DIR")
			e.hides(t, got)
			e.hides(t, fmt.Sprintf("%v %+v", d, d.Repositories)+fmt.Sprintf("%#v", d.Repositories))
			peer.Golden(t, filepath.Join("good", name, "golden"), []byte(got))
		})
	}
}

func TestBadDefinitionsTellAllTheirProblems(t *testing.T) {
	for _, name := range examples(t, "bad") {
		t.Run(name, func(t *testing.T) {
			e := open(t, filepath.Join("bad", name))
			// Maps are walked on the way: what is told may not depend on the order.
			var first string
			for range 5 {
				d, err := e.load(t)
				if err == nil || d != nil {
					t.Fatalf("loaded without a problem: %v, %v", d, err)
				}
				e.hides(t, err.Error())
				got := text(t, err)
				if first == "" {
					first = got
				}
				if got != first {
					t.Fatalf("loaded again, it tells something else:\n%s\n%s", first, got)
				}
			}
			e.hides(t, first)
			peer.Golden(t, filepath.Join("bad", name, "golden"), []byte(first))
		})
	}
}

// text is what the user sees of an error.
func text(t *testing.T, err error) string {
	t.Helper()
	var p *Problems
	if !errors.As(err, &p) {
		t.Fatalf("an error that is no problem of the definition: %v", err)
	}
	var b strings.Builder
	peer.Must(t, p.Write(&b, 0, false))
	return b.String()
}

// dump prints every field that is set, one a line, so that a golden file shows
// what was read. Secrets print themselves.
func dump(d *Definition) string {
	var b strings.Builder
	dumpValue(&b, reflect.ValueOf(*d), "")
	return b.String()
}

func dumpValue(b *strings.Builder, v reflect.Value, indent string) {
	switch value := v.Interface().(type) {
	case op.Secret:
		fmt.Fprintf(b, " %v\n", value)
		return
	case time.Duration:
		fmt.Fprintf(b, " %v\n", value)
		return
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		dumpValue(b, v.Elem(), indent)
	case reflect.Struct:
		b.WriteByte('\n')
		for i := range v.NumField() {
			if !v.Field(i).IsZero() {
				fmt.Fprintf(b, "%s%s:", indent, v.Type().Field(i).Name)
				dumpValue(b, v.Field(i), indent+"  ")
			}
		}
	case reflect.Slice:
		b.WriteByte('\n')
		for i := range v.Len() {
			fmt.Fprintf(b, "%s-", indent)
			dumpValue(b, v.Index(i), indent+"  ")
		}
	case reflect.Map:
		b.WriteByte('\n')
		for _, key := range slices.SortedFunc(slices.Values(v.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) }) {
			fmt.Fprintf(b, "%s%s:", indent, key)
			dumpValue(b, v.MapIndex(key), indent+"  ")
		}
	case reflect.String:
		fmt.Fprintf(b, " %q\n", v.String())
	default:
		fmt.Fprintf(b, " %v\n", v.Interface())
	}
}
