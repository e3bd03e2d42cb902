package install

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"herdbook/internal/definition"
)

// The types of files, as stat(2) has them.
const (
	directory = 0o040000
	regular   = 0o100000
	link      = 0o120000
)

// laid is a file of the definition in its place below top.
func laid(top string, i definition.Input) File {
	f := File{Path: path.Join(top, i.Name), Input: i}
	switch {
	case strings.HasPrefix(i.Mode, "d"):
		f.Mode = directory | permissions(i.Mode)
	case i.Link != "":
		f.Mode, f.Data = link|0o777, []byte(i.Link)
	default:
		f.Mode, f.From = regular|permissions(i.Mode), i.Path
	}
	return f
}

// permissions reads "-rwxr-xr-x".
func permissions(mode string) uint32 {
	var bits uint32
	for i, c := range []byte(mode[max(0, len(mode)-9):]) {
		if c != '-' {
			bits |= 1 << (8 - i)
		}
	}
	return bits
}

// Archive packs files as a cpio archive (newc) that the kernel unpacks into its
// first root, with the directories that lead to them. Each file must hold its
// data. The same files make the same bytes.
func Archive(files []File) ([]byte, error) {
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	made := map[string]bool{}
	for _, f := range files {
		name := strings.TrimPrefix(f.Path, "/")
		for _, dir := range parents(name) {
			if !made[dir] {
				made[dir] = true
				if err := write(w, cpio.Directory(dir, 0o755)); err != nil {
					return nil, err
				}
			}
		}
		made[name] = true
		record := cpio.StaticRecord(f.Data, cpio.Info{Name: name, Mode: uint64(f.Mode)})
		if f.Mode&directory == directory && f.Mode&link != link {
			record = cpio.Directory(name, uint64(f.Mode))
		}
		if err := write(w, record); err != nil {
			return nil, err
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("pack the initrd's files: %w", err)
	}
	return out.Bytes(), nil
}

func write(w cpio.RecordWriter, r cpio.Record) error {
	if err := w.WriteRecord(cpio.MakeReproducible(r)); err != nil {
		return fmt.Errorf("pack %s for the initrd: %w", r.Name, err)
	}
	return nil
}

// standard are directories that every installer's first root has. They are not
// written: some are links there (/lib to usr/lib), and the kernel would put a
// directory in the place of the link; others have modes of their own (/tmp). Of
// what is neither (/opt, /srv), some have less than others, and the kernel says
// nothing of a file that it has no directory for.
var standard = strings.Fields("bin dev etc lib lib32 lib64 proc root run sbin sys tmp usr usr/bin usr/lib usr/lib64 usr/sbin var var/lock var/run var/tmp")

// parents are the directories on the way to a file that may be missing, the
// outermost first.
func parents(name string) []string {
	var list []string
	for dir := path.Dir(name); dir != "." && !slices.Contains(standard, dir); dir = path.Dir(dir) {
		list = append([]string{dir}, list...)
	}
	return list
}
