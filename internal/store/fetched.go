package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"
)

// collectFetched removes media, and packages that the proxy keeps, that were not
// used for longer than the policy says; they can be fetched again. Nobody uses or
// fetches any now: who does holds the use lock.
func (s *Store) collectFetched(now time.Time, p Policy, r *Report) error {
	if p.MaxAge == 0 {
		return nil
	}
	packages := 0
	for _, top := range []string{s.MediaDir(), s.PackagesDir()} {
		err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && !entry.Type().IsRegular() {
				return nil
			}
			var stat fs.FileInfo
			if err == nil {
				stat, err = entry.Info()
			}
			if err != nil || now.Sub(lastTouch(stat)) <= p.MaxAge {
				return err
			}
			r.Freed += stat.Size()
			if top == s.PackagesDir() {
				packages++
			} else {
				r.Work = append(r.Work, filepath.Join(mediaName, filepath.Base(path)))
			}
			if p.DryRun {
				return nil
			}
			return removeIfThere(path)
		})
		if err != nil {
			return err
		}
	}
	if packages > 0 {
		r.Work = append(r.Work, fmt.Sprintf("%s: %d files", packagesName, packages))
	}
	return nil
}

// lastTouch is when a file was last written or read, as far as its file system
// notes that.
func lastTouch(stat fs.FileInfo) time.Time {
	last := stat.ModTime()
	if sys, ok := stat.Sys().(*syscall.Stat_t); ok {
		if read := time.Unix(sys.Atim.Unix()); read.After(last) {
			last = read
		}
	}
	return last
}
