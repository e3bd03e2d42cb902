package source

import (
	"fmt"
	"os"
	"syscall"
)

// NoteSuffix ends the name of the note beside a file of Media, which says in what
// state the file was when it was verified; its time is that of the last use.
const NoteSuffix = ".verified"

// state tells what changes whenever somebody writes to a file, or puts another in
// its place.
func state(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("verify what is kept: %w", err)
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("verify what is kept: %s has no inode", path)
	}
	return fmt.Sprintf("%d bytes, inode %d of %d, written %d.%09d, changed %d.%09d\n",
		sys.Size, sys.Ino, sys.Dev, sys.Mtim.Sec, sys.Mtim.Nsec, sys.Ctim.Sec, sys.Ctim.Nsec), nil
}

// vouch notes that a file was verified. Without the note it is verified again, so
// that a directory that cannot be written to serves its files all the same.
func (m *Media) vouch(path string) {
	if text, err := state(path); err == nil {
		_ = os.WriteFile(path+NoteSuffix, []byte(text), 0o644)
		_ = os.Chtimes(path+NoteSuffix, m.Now, m.Now)
	}
}

// vouched tells whether a file is as it was when it was verified, and notes that it
// was used.
func (m *Media) vouched(path string) bool {
	note, err := os.ReadFile(path + NoteSuffix)
	if err != nil {
		return false
	}
	if now, err := state(path); err != nil || now != string(note) {
		return false
	}
	_ = os.Chtimes(path+NoteSuffix, m.Now, m.Now)
	return true
}
