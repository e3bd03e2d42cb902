package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// noteSuffix ends the name of the note beside a file of media that package source
// writes: its time is that of the last use.
const noteSuffix = ".verified"

// Suffixes of what package repo/client remembers of a repository: its index as it was
// fetched, and the record that is written at each look. The record stays for ever, since
// it knows which indexes are older.
const (
	indexSuffix  = ".text"
	recordSuffix = ".json"
)

// collectFetched removes media, packages that the proxy keeps, and indexes of
// repositories that were not used for longer than the policy says; they can be fetched
// again. Nobody uses or fetches any now: who does holds the use lock.
func (s *Store) collectFetched(now time.Time, p Policy, r *Report) error {
	if p.MaxAge == 0 {
		return nil
	}
	packages := 0
	for _, top := range []string{s.MediaDir(), s.PackagesDir(), s.RepositoriesDir()} {
		err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && !entry.Type().IsRegular() {
				return nil
			}
			if isBeside(path) || top == s.RepositoriesDir() && filepath.Ext(path) != indexSuffix {
				return nil
			}
			var size int64
			var used time.Time
			if err == nil {
				size, used, err = fetchedUse(path)
			}
			if errors.Is(err, fs.ErrNotExist) { // a note that went with its file
				return nil
			}
			if err != nil || now.Sub(used) <= p.MaxAge {
				return err
			}
			r.Freed += size
			if top == s.PackagesDir() {
				packages++
			} else {
				r.Work = append(r.Work, filepath.Join(filepath.Base(top), filepath.Base(path)))
			}
			if p.DryRun {
				return nil
			}
			return errors.Join(removeIfThere(path+noteSuffix), removeIfThere(path))
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

// isBeside tells the note of a file that is there, with which it goes.
func isBeside(path string) bool {
	of, note := strings.CutSuffix(path, noteSuffix)
	_, err := os.Lstat(of)
	return note && err == nil
}

// fetchedUse is the size of a file with its note, and when it or what notes its use
// was last touched.
func fetchedUse(path string) (size int64, used time.Time, err error) {
	stat, err := os.Lstat(path)
	if err != nil {
		return 0, used, err
	}
	size, used = stat.Size(), lastTouch(stat)
	beside := path + noteSuffix
	if of, ok := strings.CutSuffix(path, indexSuffix); ok {
		beside = of + recordSuffix
	}
	other, err := os.Lstat(beside)
	if err != nil {
		return size, used, nil
	}
	if lastTouch(other).After(used) {
		used = lastTouch(other)
	}
	if strings.HasSuffix(beside, noteSuffix) {
		size += other.Size()
	}
	return size, used, nil
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
