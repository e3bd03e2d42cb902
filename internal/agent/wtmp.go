package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"herdbook/internal/guest"
)

// wtmp is where System V's init notes what it has started and what has ended (utmp(5)).
const wtmp = "/var/log/wtmp"

// A record of it has this many bytes on Linux, of which those from recordID on are the
// name of a line of inittab.
const (
	recordSize = 384
	recordID   = 40
	idSize     = 4
)

// forgetStart takes out what init has noted of the line that started the agent. Only the
// records behind the first one of it are written anew.
func forgetStart() error {
	log, err := os.OpenFile(wtmp, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for the agent in %s: %w", wtmp, err)
	}
	defer log.Close()
	text, err := os.ReadFile(wtmp)
	if err == nil {
		if kept := withoutStart(text); len(kept) < len(text) {
			_, err = log.WriteAt(kept, 0)
			err = errors.Join(err, log.Truncate(int64(len(kept))))
		}
	}
	if err != nil {
		return fmt.Errorf("take the agent out of %s: %w", wtmp, err)
	}
	return nil
}

// withoutStart are the records without those of the agent's line. What is no whole
// record stays.
func withoutStart(text []byte) []byte {
	kept := make([]byte, 0, len(text))
	for len(text) >= recordSize {
		id := bytes.TrimRight(text[recordID:recordID+idSize], "\x00")
		if string(id) != guest.InittabID {
			kept = append(kept, text[:recordSize]...)
		}
		text = text[recordSize:]
	}
	return append(kept, text...)
}
