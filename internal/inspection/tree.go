package inspection

import (
	"io/fs"
	"strings"

	"herdbook/internal/ext4"
)

// tree joins file systems: the root, and others at their mount points. Links
// are followed within one file system, as far as every guest needs them.
type tree struct {
	mounts []mounted // the root first; later ones may lie within earlier ones
}

type mounted struct {
	dir string // as fs.FS names it
	fs  *ext4.FS
}

// at finds the file system that holds name, and the name in it.
func (t *tree) at(name string) (*ext4.FS, string) {
	best, rest := t.mounts[0].fs, name
	for _, m := range t.mounts[1:] {
		if name == m.dir {
			best, rest = m.fs, "."
		} else if below, ok := strings.CutPrefix(name, m.dir+"/"); ok {
			best, rest = m.fs, below
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
