package inspection

import (
	"io/fs"
	"strings"

	"herdbook/internal/filesystem"
)

// tree joins file systems: the root, and others at their mount points. Links
// are followed within one file system, as far as every guest needs them.
type tree struct {
	mounts []Mounted // the root first; later ones may lie within earlier ones
}

// Mounted is a file system in its place.
type Mounted struct {
	Dir string // as fs.FS names it: "." for the root
	FS  *filesystem.FS
}

// at finds the file system that holds name, and the name in it.
func (t *tree) at(name string) (*filesystem.FS, string) {
	best, rest := t.mounts[0].FS, name
	for _, m := range t.mounts[1:] {
		if name == m.Dir {
			best, rest = m.FS, "."
		} else if below, ok := strings.CutPrefix(name, m.Dir+"/"); ok {
			best, rest = m.FS, below
		}
	}
	return best, rest
}

func (t *tree) Open(name string) (fs.File, error) { f, rest := t.at(name); return f.Open(rest) }

func (t *tree) Stat(name string) (fs.FileInfo, error) { f, rest := t.at(name); return f.Stat(rest) }

func (t *tree) Lstat(name string) (fs.FileInfo, error) { f, rest := t.at(name); return f.Lstat(rest) }

func (t *tree) ReadLink(name string) (string, error) { f, rest := t.at(name); return f.ReadLink(rest) }

func (t *tree) ReadFile(name string) ([]byte, error) { f, rest := t.at(name); return f.ReadFile(rest) }

func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	f, rest := t.at(name)
	return f.ReadDir(rest)
}
