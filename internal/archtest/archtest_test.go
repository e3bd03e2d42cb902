package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root         = "../.."
	module       = "herdbook/"
	maxFile      = 400 // lines
	maxFunction  = 60  // lines
	maxParameter = 5
)

// file is one parsed Go file of the module.
type file struct {
	path string // relative to the root
	pkg  string // such as internal/store
	test bool
	ast  *ast.File
	fset *token.FileSet
}

func load(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "tools" || name == "bin") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		tree, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		files = append(files, file{relative, filepath.Dir(relative), strings.HasSuffix(name, "_test.go"), tree, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("found only %d Go files: is this the module's root?", len(files))
	}
	return files
}

func (f file) line(p token.Pos) int { return f.fset.Position(p).Line }

func (f file) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}

func TestImportsOnlyGoDown(t *testing.T) {
	edges := map[string]map[string]bool{}
	for _, f := range load(t) {
		if _, ranked := packages[f.pkg]; !ranked {
			t.Errorf("%s: package %s is not in the table: give it a rank and a reason", f.path, f.pkg)
			continue
		}
		if f.test {
			continue
		}
		for _, path := range f.imports() {
			to, ours := strings.CutPrefix(path, module)
			if !ours {
				continue
			}
			if edges[f.pkg] == nil {
				edges[f.pkg] = map[string]bool{}
			}
			edges[f.pkg][to] = true
			if packages[to].rank >= packages[f.pkg].rank {
				t.Errorf("%s (rank %d) imports %s (rank %d): imports go down only", f.path, packages[f.pkg].rank, to, packages[to].rank)
			}
			if !slices.Contains(packages[f.pkg].imports, strings.TrimPrefix(to, "internal/")) {
				t.Errorf("%s imports %s: a new edge; if it is meant, add it to the table of internal/archtest", f.path, to)
			}
		}
	}
	for pkg, p := range packages {
		for _, to := range p.imports {
			if !edges[pkg]["internal/"+to] {
				t.Errorf("the table says that %s imports %s, which it does not", pkg, to)
			}
		}
	}
}

func TestPurePackagesAreBlind(t *testing.T) {
	for _, f := range load(t) {
		if f.test || !packages[f.pkg].pure {
			continue
		}
		for _, path := range f.imports() {
			for _, impure := range []string{"os/exec", "net", "math/rand", "math/rand/v2", "crypto/rand"} {
				if path == impure || strings.HasPrefix(path, "net/") && path != "net/url" && path != "net/netip" {
					t.Errorf("%s: a pure package imports %s", f.path, path)
				}
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s:%d: a pure package starts a goroutine", f.path, f.line(g.Pos()))
			}
			return true
		})
	}
}

func TestEveryPackageAndExportedNameIsDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range load(t) {
		if f.test {
			continue
		}
		documented[f.pkg] = documented[f.pkg] || f.ast.Doc != nil
		for _, d := range f.ast.Decls {
			undocumented(d, func(name string, at token.Pos) {
				t.Errorf("%s:%d: %s has no doc comment", f.path, f.line(at), name)
			})
		}
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no doc comment", pkg)
		}
	}
}

func undocumented(d ast.Decl, report func(string, token.Pos)) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !stringly(d) {
			report(d.Name.Name, d.Pos())
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil {
					report(spec.Name.Name, spec.Pos())
				}
			case *ast.ValueSpec:
				if spec.Names[0].IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					report(spec.Names[0].Name, spec.Pos())
				}
			}
		}
	}
}

// stringly tells one-line methods of a well-known interface, whose names say all.
func stringly(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains([]string{"Kind", "Version", "Error", "String", "Len", "Less", "Swap"}, d.Name.Name)
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	exported := false
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			exported = exported || id.IsExported()
		}
		return true
	})
	return exported
}

func TestPiecesAreSmall(t *testing.T) {
	for _, f := range load(t) {
		if n := f.fset.File(f.ast.Pos()).LineCount(); n > maxFile && !f.test {
			t.Errorf("%s has %d lines: is it one thing? (at most %d)", f.path, n, maxFile)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			if n := f.line(fn.End()) - f.line(fn.Pos()) + 1; n > maxFunction && !f.test {
				t.Errorf("%s:%d: %s has %d lines (at most %d)", f.path, f.line(fn.Pos()), fn.Name.Name, n, maxFunction)
			}
			if n := fn.Type.Params.NumFields(); n > maxParameter {
				t.Errorf("%s:%d: %s has %d parameters (at most %d)", f.path, f.line(fn.Pos()), fn.Name.Name, n, maxParameter)
			}
		}
	}
}

func TestMainsAreShort(t *testing.T) {
	for _, f := range load(t) {
		if strings.HasPrefix(f.pkg, "cmd/") && !f.test {
			if n := f.fset.File(f.ast.Pos()).LineCount(); n > 40 {
				t.Errorf("%s has %d lines; a main has at most 40", f.path, n)
			}
		}
	}
}

func TestTheWorldEntersAtItsDoors(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range load(t) {
		if f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "init" && fn.Recv == nil {
				t.Errorf("%s:%d: no init(): write the table out", f.path, f.line(fn.Pos()))
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := s.X.(*ast.Ident)
			if !ok || x.Obj != nil {
				return true
			}
			call := x.Name + "." + s.Sel.Name
			allowed, guarded := doors[call]
			if guarded && !slices.Contains(allowed, f.pkg) {
				t.Errorf("%s:%d: %s may stand only in %v", f.path, f.line(s.Pos()), call, allowed)
			}
			if guarded {
				seen[call+" "+f.pkg] = true
			}
			return true
		})
		if slices.Contains(f.imports(), "log") || slices.Contains(f.imports(), "log/slog") {
			if f.pkg != "internal/cli" && f.pkg != "internal/agent" {
				t.Errorf("%s: only cli and agent may log; others report events", f.path)
			}
		}
	}
	for _, call := range slices.Sorted(maps.Keys(doors)) {
		for _, pkg := range doors[call] {
			if !seen[call+" "+pkg] {
				t.Errorf("the table lets %s stand in %s, where it is not", call, pkg)
			}
		}
	}
}
