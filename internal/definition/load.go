package definition

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Options are what a definition may depend on beside its files.
type Options struct {
	Variables     map[string]string           // by name, from the command line
	VariableFiles []string                    // HCL files of assignments
	LookupEnv     func(string) (string, bool) // nil: no environment
}

// VariablePrefix begins the names of environment variables that set variables.
const VariablePrefix = "HERDBOOK_VAR_"

// Problems is every problem of a definition.
type Problems struct {
	Diagnostics hcl.Diagnostics
	files       map[string]*hcl.File
}

// Error implements error: the first problem, and how many more there are.
func (p *Problems) Error() string {
	errs := p.Diagnostics.Errs()
	if len(errs) == 1 {
		return errs[0].Error()
	}
	return fmt.Sprintf("%v; and %d more", errs[0], len(errs)-1)
}

// maxWritten bounds the problems that are printed: for each, the writer reads
// the file anew from its start.
const maxWritten = 100

// Write prints the problems with their source lines, for a terminal of width
// columns (0: do not wrap). Of very many it prints the first, and how many more
// there are.
func (p *Problems) Write(w io.Writer, width uint, colour bool) error {
	shown := p.Diagnostics[:min(maxWritten, len(p.Diagnostics))]
	if err := hcl.NewDiagnosticTextWriter(w, p.files, width, colour).WriteDiagnostics(shown); err != nil {
		return err
	}
	if more := len(p.Diagnostics) - len(shown); more > 0 {
		_, err := fmt.Fprintf(w, "and %d more problems\n", more)
		return err
	}
	return nil
}

// DefaultFile is the definition if none is named.
const DefaultFile = "herdbook.hcl"

// Load reads a file, or all *.hcl files of a directory. An error that is a
// *Problems holds everything that is wrong with the definition itself.
func Load(path string, o Options) (*Definition, error) {
	dir, names, err := find(path)
	if err != nil {
		return nil, err
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("read definition: %w", err)
	}
	l, d := load(absolute, names, o, false)
	if l.diags.HasErrors() {
		return nil, l.problems()
	}
	d.Path = filepath.Join(absolute, filepath.Base(path))
	if dir == path {
		d.Path = absolute
	}
	if l.secrets > 0 {
		// What stands around a secret is known by reading all a second time without
		// any. It may fail then, where something was made of a secret that needs its
		// value; nothing is known of the text around it, then.
		if blind, around := load(absolute, names, o, true); !blind.diags.HasErrors() {
			surround(reflect.ValueOf(d), reflect.ValueOf(around))
		}
	}
	return d, nil
}

// load reads the files, which lie in or count from dir. A blind reading knows the
// names of secrets only.
func load(dir string, names []string, o Options, blind bool) (*loader, *Definition) {
	parser := hclparse.NewParser()
	l := &loader{dir: dir, options: o, blind: blind, parser: parser, reported: map[string]bool{}, published: map[Publish]string{}, faulty: map[string]bool{}}
	var bodies []hcl.Body
	for _, name := range names {
		if file := l.parseFile(name); file != nil {
			bodies = append(bodies, file.Body)
		}
	}
	if l.diags.HasErrors() { // what does not parse would make problems of its own
		return l, nil
	}
	return l, l.load(hcl.MergeBodies(bodies))
}

// ErrNone is wrapped by the error that says that there is no definition.
var ErrNone = errors.New("no definition")

// Files lists the files of a definition.
func Files(path string) ([]string, error) {
	_, names, err := find(path)
	return names, err
}

// find lists the files of a definition.
func find(path string) (dir string, names []string, err error) {
	stat, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil, fmt.Errorf("%w: there is no %s; write one, begin with herdbook init, or name another with --file", ErrNone, path)
	}
	if err != nil {
		return "", nil, fmt.Errorf("read definition: %w", err)
	}
	if !stat.IsDir() {
		return filepath.Dir(path), []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return "", nil, fmt.Errorf("read definition: %w", err)
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".hcl" {
			names = append(names, filepath.Join(path, e.Name()))
		}
	}
	if len(names) == 0 {
		return "", nil, fmt.Errorf("%w: there is no *.hcl file in %s", ErrNone, path)
	}
	return path, names, nil
}

// Format returns the text of a definition in the canonical style.
func Format(text []byte, name string) ([]byte, error) {
	parser := hclparse.NewParser()
	if _, diags := parse(parser, text, name); diags.HasErrors() {
		return nil, &Problems{diags, parser.Files()}
	}
	return hclwrite.Format(text), nil
}

// loader gathers what is found and what is wrong.
type loader struct {
	dir     string
	options Options
	blind   bool // a secret's name stands for its value, and no tree is read
	parser  *hclparse.Parser
	diags   hcl.Diagnostics

	reported  map[string]bool    // the texts of diags
	met       int                // problems, those that were reported before too
	secrets   int                // how often env() gave a secret
	published map[Publish]string // where each name in a repository is taken
	faulty    map[string]bool    // repositories that have problems
}

func (l *loader) report(diags hcl.Diagnostics) {
	// The excerpt is enough; the values of an expression could be secrets.
	l.met += len(diags)
	for _, d := range diags {
		d.Expression, d.EvalContext = nil, nil
		if text := d.Error(); !l.reported[text] {
			l.reported[text] = true
			l.diags = append(l.diags, d)
		}
	}
}

// fault reports one problem at a place.
func (l *loader) fault(at hcl.Range, summary, detail string) {
	l.report(hcl.Diagnostics{{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: &at}})
}

func (l *loader) problems() *Problems {
	place := func(d *hcl.Diagnostic) (at hcl.Range) { // those without one come first
		if d.Subject != nil {
			at = *d.Subject
		}
		return at
	}
	slices.SortStableFunc(l.diags, func(a, b *hcl.Diagnostic) int {
		at, other := place(a), place(b)
		return cmp.Or(strings.Compare(at.Filename, other.Filename), at.Start.Byte-other.Start.Byte, strings.Compare(a.Detail, b.Detail))
	})
	return &Problems{l.diags, l.parser.Files()}
}

// position writes a place as file:line, relative to the definition.
func (l *loader) position(r hcl.Range) string {
	return fmt.Sprintf("%s:%d", filepath.Base(r.Filename), r.Start.Line)
}
