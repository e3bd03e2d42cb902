package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// collectMedia removes what was fetched and not used for longer than the policy
// says; it can be fetched again. Nobody uses or fetches any now: who does holds
// the use lock.
func (s *Store) collectMedia(now time.Time, p Policy, r *Report) error {
	files, err := s.entries(mediaName)
	if errors.Is(err, fs.ErrNotExist) || p.MaxAge == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	for _, path := range files {
		stat, err := os.Stat(path)
		if err != nil {
			return err
		}
		if now.Sub(stat.ModTime()) <= p.MaxAge {
			continue
		}
		if !p.DryRun {
			if err := removeIfThere(path); err != nil {
				return err
			}
		}
		r.Work = append(r.Work, filepath.Join(mediaName, filepath.Base(path)))
		r.Freed += stat.Size()
	}
	return nil
}
