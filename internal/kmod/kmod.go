// Package kmod reads the modules of a kernel in a guest's tree: which there are, in what
// order they are to be loaded, their content, and the firmware that they ask for. It loads
// none.
package kmod

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const (
	maxModule = 64 << 20 // bytes of a module, decompressed
	// A kernel needs some 20 modules of some MiB; an image that lists others' worth
	// would fill the host's memory.
	maxModules = 500
)

// Modules are those of one kernel in a guest.
type Modules struct {
	tree    fs.FS
	dir     string
	paths   map[string]string   // name → path below dir
	needs   map[string][]string // path → the paths that it needs, to be loaded from the last to the first
	builtin map[string]bool     // names
	before  map[string][]string // name → names of what is of use to it, loaded before it
}

// Name is the name of the module in a file: the kernel takes - for _.
func Name(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// Read reads the lists of the modules that are in a directory such as
// lib/modules/6.1.0-9-amd64.
func Read(tree fs.FS, dir string) (*Modules, error) {
	m := &Modules{tree: tree, dir: dir, paths: map[string]string{}, needs: map[string][]string{}, builtin: map[string]bool{}, before: map[string][]string{}}
	text, err := readFile(tree, path.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		file, needs, ok := strings.Cut(string(line), ":")
		if ok {
			m.paths[Name(file)], m.needs[file] = file, strings.Fields(needs)
		}
	}
	text, err = readFile(tree, path.Join(dir, "modules.builtin"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		m.builtin[Name(strings.TrimSpace(string(line)))] = true
	}
	return m, m.readBefore()
}

// readBefore reads modules.softdep, whose lines are such as
// softdep r8169 pre: realtek post: other.
func (m *Modules) readBefore() error {
	text, err := readFile(m.tree, path.Join(m.dir, "modules.softdep"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) < 3 || fields[0] != "softdep" {
			continue
		}
		before := false
		for _, word := range fields[2:] {
			if strings.HasSuffix(word, ":") {
				before = word == "pre:"
			} else if before {
				name := strings.ReplaceAll(fields[1], "-", "_")
				m.before[name] = append(m.before[name], word)
			}
		}
	}
	return nil
}

// Before lists the modules that are to be loaded before one, where there are such: it may
// look for what they do, and does not need them to be loaded.
func (m *Modules) Before(name string) []string { return m.before[strings.ReplaceAll(name, "-", "_")] }

// Has tells whether the kernel has a module, or its like built in.
func (m *Modules) Has(name string) bool {
	name = strings.ReplaceAll(name, "-", "_")
	return m.builtin[name] || m.paths[name] != ""
}

// Alias says which module drives the hardware that calls itself by names of a pattern.
type Alias struct{ Pattern, Module string }

// Aliases reads modules.alias. A kernel without it knows none.
func (m *Modules) Aliases() ([]Alias, error) {
	text, err := readFile(m.tree, path.Join(m.dir, "modules.alias"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []Alias
	for line := range bytes.Lines(text) {
		if f := strings.Fields(string(line)); len(f) == 3 && f[0] == "alias" {
			list = append(list, Alias{f[1], strings.ReplaceAll(f[2], "-", "_")})
		}
	}
	return list, nil
}

// Below lists the modules in a directory of the kernel's, such as drivers/net, by name.
func (m *Modules) Below(dir string) []string {
	var list []string
	for name, file := range m.paths {
		if strings.HasPrefix(file, "kernel/"+dir+"/") {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// Order lists the files to be loaded for modules and what those need, in order. Of the
// optional ones what the kernel has not is left out.
func (m *Modules) Order(required, optional []string) ([]string, error) {
	var files []string
	add := func(file string) {
		if !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	for i, name := range slices.Concat(optional, required) {
		name = strings.ReplaceAll(name, "-", "_")
		file, ok := m.paths[name]
		switch {
		case m.builtin[name]:
			continue
		case !ok && i < len(optional):
			continue
		case !ok:
			return nil, fmt.Errorf("it has no module %s, nor is it built in", name)
		}
		if n := len(files) + len(m.needs[file]); n > maxModules {
			return nil, fmt.Errorf("with what its module %s needs it has %d to be loaded, more than %d", name, n, maxModules)
		}
		for _, need := range slices.Backward(m.needs[file]) {
			add(need)
		}
		add(file)
	}
	return files, nil
}

// Content is a module, decompressed.
func (m *Modules) Content(file string) ([]byte, error) {
	p, err := readFile(m.tree, path.Join(m.dir, file))
	if err != nil {
		return nil, err
	}
	if p, err = decompress(file, p); err != nil {
		return nil, fmt.Errorf("decompress module %s: %w", file, err)
	}
	return p, nil
}

// decompress unpacks a module by the ending of its name.
func decompress(name string, p []byte) ([]byte, error) {
	var r io.Reader
	var err error
	switch path.Ext(name) {
	case ".xz":
		// A stream that ends in front of a block would be taken for a whole one.
		if !bytes.HasSuffix(bytes.TrimRight(p, "\x00"), []byte("YZ")) {
			return nil, io.ErrUnexpectedEOF
		}
		r, err = xz.NewReader(bytes.NewReader(p))
	case ".gz":
		r, err = gzip.NewReader(bytes.NewReader(p))
	case ".zst":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(bytes.NewReader(p), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModule)); err == nil {
			defer d.Close()
		}
		r = d
	default:
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	module, err := readAll(r)
	if err == nil && len(module) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return module, err
}

func readFile(tree fs.FS, name string) ([]byte, error) {
	f, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := readAll(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return p, nil
}

func readAll(r io.Reader) ([]byte, error) {
	p, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err == nil && int64(len(p)) > maxModule {
		err = fmt.Errorf("it has more than %d bytes", maxModule)
	}
	return p, err
}
