package survey

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"

	"herdbook/internal/filesystem"
)

// sizeDepth is how many directories deep sizes are told.
const sizeDepth = 2

// DirectorySize is what lies below a directory.
type DirectorySize struct {
	Dir   string `json:"dir"`   // absolute
	Bytes int64  `json:"bytes"` // lengths of files and links; one with several names counts where it comes first
	Files int64  `json:"files"` // names of anything but directories
}

// sizes measures the root and the directories of two levels below it, in the order
// of their paths.
func sizes(tree *filesystem.FS) ([]DirectorySize, error) {
	sum := map[string]*DirectorySize{}
	seen := map[uint64]bool{} // inodes with several names
	err := tree.Walk(func(name string, e *filesystem.Entry) error {
		stat, err := e.Stat()
		if err != nil {
			return err
		}
		if stat.Mode&filesystem.ModeType == filesystem.ModeDir {
			if name == "." || strings.Count(name, "/") < sizeDepth {
				sum[name] = &DirectorySize{Dir: path.Join("/", name)}
			}
			return nil
		}
		var length int64
		if kind := stat.Mode & filesystem.ModeType; kind == filesystem.ModeRegular || kind == filesystem.ModeSymlink {
			if stat.Nlink < 2 || !seen[stat.Ino] {
				length = stat.Size
			}
			if stat.Nlink > 1 {
				seen[stat.Ino] = true
			}
		}
		sum["."].count(length)
		levels := 0
		for i := range len(name) {
			if name[i] == '/' && levels < sizeDepth {
				sum[name[:i]].count(length)
				levels++
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("measure directories: %w", err)
	}
	var list []DirectorySize
	for _, d := range sum {
		list = append(list, *d)
	}
	slices.SortFunc(list, func(a, b DirectorySize) int { return comparePaths(a.Dir, b.Dir) })
	return list, nil
}

// count adds a file. Lengths are what a guest claims: their sum ends at what an
// int64 holds.
func (d *DirectorySize) count(length int64) {
	d.Files++
	if length = max(0, length); d.Bytes > math.MaxInt64-length {
		length = math.MaxInt64 - d.Bytes
	}
	d.Bytes += length
}

// comparePaths orders as a walk does: what is in a directory follows it.
func comparePaths(a, b string) int {
	return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
}
