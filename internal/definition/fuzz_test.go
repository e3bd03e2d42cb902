package definition

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/peer"
)

// fuzzSecret stands nowhere in the seeds.
const fuzzSecret = "zQ7-vault-X9"

// FuzzLoad holds that any bytes are either a definition or problems, each at a
// place of the file, the same ones each time, and without a secret in them.
func FuzzLoad(f *testing.F) {
	peer.Must(f, filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".hcl" {
			return err
		}
		text, err := os.ReadFile(path)
		f.Add(text)
		return err
	}))
	dir := f.TempDir()
	path := filepath.Join(dir, DefaultFile)
	for _, name := range []string{"a.tpl", "names.tpl", "none.txt"} {
		peer.Must(f, os.WriteFile(filepath.Join(dir, name), []byte(`${a} ${env("X")} %{ if a == 1 }${file(b)}%{ endif }`), 0o644))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.Contains(text, []byte(fuzzSecret)) {
			return
		}
		peer.Must(t, os.WriteFile(path, text, 0o644))
		first := outcome(t, path, text)
		if again := outcome(t, path, text); again != first {
			t.Errorf("loaded again, it gives something else:\n%s\n%s", first, again)
		}
		if strings.Contains(first, fuzzSecret) {
			t.Errorf("a secret shows in:\n%s", first)
		}
	})
}

// outcome is the definition, or its problems, as a text.
func outcome(t *testing.T, path string, source []byte) string {
	t.Helper()
	d, err := Load(path, Options{LookupEnv: func(name string) (string, bool) {
		return fuzzSecret, !strings.HasPrefix(name, VariablePrefix)
	}})
	if err == nil {
		return dump(d)
	}
	var p *Problems
	if !errors.As(err, &p) || d != nil || len(p.Diagnostics) == 0 {
		t.Fatalf("neither a definition nor problems: %v, %v", d, err)
	}
	for _, problem := range p.Diagnostics {
		switch at := problem.Subject; {
		case at == nil && problem.Summary == "No image":
		case at == nil:
			t.Errorf("a problem without a place: %v", problem)
		case at.Filename != path || at.Start.Line < 1 || at.Start.Byte > len(source) || at.End.Byte < at.Start.Byte:
			t.Errorf("a problem at an impossible place: %v", problem)
		}
		if problem.Summary == "" || problem.Detail == "" {
			t.Errorf("a problem that tells nothing: %v", problem)
		}
	}
	return text(t, err)
}
