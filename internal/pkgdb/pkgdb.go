// Package pkgdb reads which software packages a guest has, out of its file tree:
// the databases of dpkg, rpm (Berkeley DB, ndb and SQLite), apk and pacman. It
// starts no package manager and takes nothing in a database on trust: every number
// is bounded, and no page is read twice, so that a cycle is an error. Whether the
// files of a package are there is left to others.
package pkgdb

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"unicode/utf8"
)

// Database is what one package manager knows.
type Database struct {
	Manager  string    `json:"manager"` // dpkg, rpm, apk or pacman
	Format   string    `json:"format"`  // status or status.d; bdb, ndb or sqlite; installed; local
	Path     string    `json:"path"`    // in the tree
	Packages []Package `json:"packages"`
}

// Package is one that is installed, be it only in part.
type Package struct {
	Name         string `json:"name"`
	Version      string `json:"version"`      // whole, as the manager compares it: [EPOCH:]VERSION[-RELEASE]
	Architecture string `json:"architecture"` // as the manager names it; empty for a key of rpm's
	Size         int64  `json:"size"`         // bytes that its files take, as the package says; 0 where it does not
	Summary      string `json:"summary,omitempty"`
}

const (
	maxPackages = 1 << 16 // the whole of Debian has fewer
	maxField    = 255     // bytes of a name, a version or an architecture
	maxSummary  = 512     // bytes; more is cut
	maxDatabase = 1 << 30 // bytes; that of a full desktop has a tenth
)

// format is one kind of database and where it may lie. A manager has the first
// that holds packages: a change of format can leave an old one behind.
type format struct {
	manager, name string
	paths         []string
	read          func(tree fs.FS, path string, add adder) error
}

// adder takes a package that was found.
type adder func(Package) error

var formats = []format{
	{"apk", "installed", []string{"usr/lib/apk/db/installed", "lib/apk/db/installed"}, readAPK},
	{"dpkg", "status", []string{"var/lib/dpkg/status"}, readStatus},
	{"dpkg", "status.d", []string{"var/lib/dpkg/status.d"}, readStatusDir},
	{"pacman", "local", []string{"var/lib/pacman/local"}, readLocal},
	{"rpm", "sqlite", inRPM("rpmdb.sqlite"), readSQLite},
	{"rpm", "ndb", inRPM("Packages.db"), oneFile(ndbPackages)},
	{"rpm", "bdb", inRPM("Packages"), oneFile(bdbPackages)},
}

// inRPM is where a file of rpm's may lie: today, before Fedora 36, under rpm-ostree.
func inRPM(name string) []string {
	return []string{"usr/lib/sysimage/rpm/" + name, "var/lib/rpm/" + name, "usr/share/rpm/" + name}
}

// Read returns the package databases of a tree, by manager, each with its packages
// by name. A database without packages is none. The files of rpm must implement
// io.ReaderAt.
func Read(tree fs.FS) ([]Database, error) {
	var found []Database
	for _, f := range formats {
		for _, path := range f.paths {
			if len(found) > 0 && found[len(found)-1].Manager == f.manager {
				break
			}
			list, err := f.packages(tree, path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return nil, fmt.Errorf("read package database %s: %w", path, err)
			case len(list) > 0:
				found = append(found, Database{f.manager, f.name, path, list})
			}
		}
	}
	return found, nil
}

// packages reads one database, or says that it is not there.
func (f format) packages(tree fs.FS, path string) ([]Package, error) {
	if _, err := fs.Stat(tree, path); err != nil {
		return nil, err
	}
	var list []Package
	err := f.read(tree, path, func(p Package) error {
		for _, field := range []string{p.Name, p.Version, p.Architecture} {
			if len(field) > maxField {
				return fmt.Errorf("package %.40q has a field of more than %d bytes", p.Name, maxField)
			}
		}
		if p.Name == "" {
			return errors.New("a package has no name")
		}
		if len(list) == maxPackages {
			return fmt.Errorf("it has more than %d packages", maxPackages)
		}
		p.Size = max(0, p.Size)
		p.Summary = cut(p.Summary)
		list = append(list, p)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) { // a dangling link within it is no missing database
		return nil, fmt.Errorf("a part of it is missing: %s", err)
	}
	slices.SortFunc(list, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Architecture, b.Architecture))
	})
	return list, err
}

// cut is the beginning of a summary, whole characters of it.
func cut(s string) string {
	if len(s) <= maxSummary {
		return s
	}
	n := maxSummary
	for n > maxSummary-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// file is an open database of pages or blocks.
type file struct {
	io.ReaderAt
	io.Closer
	size int64
}

// oneFile reads a database that is a file by itself.
func oneFile(packages func(*file, adder) error) func(fs.FS, string, adder) error {
	return func(tree fs.FS, path string, add adder) (err error) {
		f, err := openFile(tree, path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if f.size == 0 {
			return nil // made and never written
		}
		return packages(f, add)
	}
}

// openFile opens a database that is not read from front to end.
func openFile(tree fs.FS, path string) (*file, error) {
	opened, err := tree.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := opened.Stat()
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	r, ok := opened.(io.ReaderAt)
	switch {
	case !info.Mode().IsRegular() || !ok:
		err = errors.New("it is no regular file")
	case info.Size() > maxDatabase:
		err = fmt.Errorf("it has %d bytes; the largest that is read has %d", info.Size(), maxDatabase)
	default:
		return &file{r, opened, info.Size()}, nil
	}
	return nil, errors.Join(err, opened.Close())
}

// at reads n bytes at an offset.
func (f *file) at(off int64, n int) ([]byte, error) {
	if off < 0 || off > f.size || int64(n) > f.size-off {
		return nil, fmt.Errorf("bytes %d to %d are behind its end at %d", off, off+int64(n), f.size)
	}
	p := make([]byte, n)
	if got, err := f.ReadAt(p, off); got < n {
		return nil, cmp.Or(err, io.ErrUnexpectedEOF)
	}
	return p, nil
}

// Paths are where databases may lie. Some are directories; where there are only files,
// and each is the same in itself and by its times, no package has come or gone.
func Paths() []string {
	var list []string
	for _, f := range formats {
		list = append(list, f.paths...)
		if f.name == "sqlite" {
			for _, path := range f.paths {
				list = append(list, path+walSuffix)
			}
		}
	}
	return list
}
