package pkgdb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// maxLine is where a line is cut. What is read here is shorter; lists of
// dependencies can be longer.
const maxLine = 64 << 10

// eachLine calls fn for every line of a file, without its end.
func eachLine(tree fs.FS, name string, fn func(line string) error) (err error) {
	opened, err := tree.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	limited := &io.LimitedReader{R: opened, N: maxDatabase}
	r := bufio.NewReaderSize(limited, maxLine)
	for whole := true; ; {
		line, more, err := r.ReadLine()
		switch {
		case errors.Is(err, io.EOF) && limited.N == 0:
			return fmt.Errorf("it has more than %d bytes", maxDatabase)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if whole { // or it is the rest of a long line
			if err := fn(string(line)); err != nil {
				return err
			}
		}
		whole = !more
	}
}

// stanza is what dpkg says of one package.
type stanza struct {
	Package
	state string // installed, config-files …; "" if it does not say
}

// readStatus reads dpkg's status file (deb822, dpkg(1)), one stanza per package that
// dpkg knows of, there or not; and what stands in updates beside it, which counts
// instead: files with numbers for names, of a dpkg that was interrupted.
func readStatus(tree fs.FS, name string, add adder) error {
	names := []string{name}
	updates, err := fs.ReadDir(tree, path.Join(path.Dir(name), "updates"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range updates { // in the order of their numbers, which have leading zeros
		if strings.Trim(e.Name(), "0123456789") == "" {
			names = append(names, path.Join(path.Dir(name), "updates", e.Name()))
		}
	}
	known := map[[2]string]stanza{}
	for _, name := range names {
		if err := stanzas(tree, name, func(s stanza) error {
			if known[[2]string{s.Name, s.Architecture}] = s; len(known) > maxPackages {
				return fmt.Errorf("it has more than %d packages", maxPackages)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for _, s := range known {
		if s.state == "" || s.state == "not-installed" || s.state == "config-files" {
			continue
		}
		if err := add(s.Package); err != nil {
			return err
		}
	}
	return nil
}

// readStatusDir reads status.d, where images without dpkg have one stanza per file
// and no word of its state, as what is listed is there.
func readStatusDir(tree fs.FS, name string, add adder) error {
	entries, err := fs.ReadDir(tree, name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || strings.HasSuffix(e.Name(), ".md5sums") {
			continue
		}
		if err := stanzas(tree, path.Join(name, e.Name()), func(s stanza) error { return add(s.Package) }); err != nil {
			return err
		}
	}
	return nil
}

// stanzas calls fn for each of a file.
func stanzas(tree fs.FS, name string, fn func(stanza) error) error {
	var s stanza
	flush := func() error {
		done := s
		s = stanza{}
		if done == (stanza{}) {
			return nil
		}
		return fn(done)
	}
	err := eachLine(tree, name, func(line string) error {
		if strings.TrimSpace(line) == "" {
			return flush()
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok || line[0] == ' ' || line[0] == '\t' || line[0] == '#' {
			return nil // a field goes on
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(key) {
		case "package":
			s.Name = value
		case "version":
			s.Version = value
		case "architecture":
			s.Architecture = value
		case "installed-size":
			s.Size = number(value, 1024)
		case "description":
			s.Summary = value
		case "status": // what is wanted, whether it is in order, its state
			if words := strings.Fields(value); len(words) == 3 {
				s.state = words[2]
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// number reads a count of units of bytes; 0 is for what is none.
func number(s string, unit int64) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0
	}
	return n * unit
}

// readAPK reads apk's list (apk-installed(5)): records of lines that begin with a
// letter and a colon, an empty line between them.
func readAPK(tree fs.FS, name string, add adder) error {
	var p Package
	flush := func() error {
		done := p
		p = Package{}
		if done == (Package{}) {
			return nil
		}
		return add(done)
	}
	err := eachLine(tree, name, func(line string) error {
		if line == "" {
			return flush()
		}
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "P":
			p.Name = value
		case "V":
			p.Version = value
		case "A":
			p.Architecture = value
		case "I":
			p.Size = number(value, 1)
		case "T":
			p.Summary = value
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// readLocal reads pacman's local database: a directory per package, with a file
// desc that has every %FIELD% on a line and its values on those below.
func readLocal(tree fs.FS, name string, add adder) error {
	entries, err := fs.ReadDir(tree, name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() { // ALPM_DB_VERSION
			continue
		}
		p, err := readDesc(tree, path.Join(name, e.Name(), "desc"))
		if err != nil {
			return err
		}
		if err := add(p); err != nil {
			return err
		}
	}
	return nil
}

func readDesc(tree fs.FS, name string) (Package, error) {
	var p Package
	field := ""
	err := eachLine(tree, name, func(line string) error {
		if strings.HasPrefix(line, "%") && strings.HasSuffix(line, "%") {
			field = line
			return nil
		}
		switch field {
		case "%NAME%":
			p.Name = line
		case "%VERSION%":
			p.Version = line
		case "%ARCH%":
			p.Architecture = line
		case "%SIZE%":
			p.Size = number(line, 1)
		case "%DESC%":
			p.Summary = line
		}
		field = "" // the first value is all
		return nil
	})
	return p, err
}
