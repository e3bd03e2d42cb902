package inspection

import (
	"errors"
	"fmt"
	"io"

	"herdbook/internal/disk"
	"herdbook/internal/filesystem"
	"herdbook/internal/volume"
)

// ErrHibernated says that a system lies asleep on the disk, with its file systems
// mounted.
var ErrHibernated = errors.New("the system is hibernated: start it and shut it down first")

// Idle is what of a disk means nothing.
type Idle struct {
	Ranges []disk.Range // of the disk, in no order
	Free   int64        // bytes of the volumes that they are
	Other  []string     // volumes of which it is not known, and why
}

// FindIdle finds out which bytes of a quiet disk mean nothing: what is free in its
// file systems, what their journals hold that was written back, and swap. An
// error that wraps filesystem.ErrDirty says that a file system is not quiet.
func FindIdle(r io.ReaderAt, size int64, keys ...volume.Key) (Idle, error) {
	idle, err := findIdle(r, size, keys)
	if err != nil {
		return Idle{}, fmt.Errorf("find what is free: %w", err)
	}
	return idle, nil
}

func findIdle(r io.ReaderAt, size int64, keys []volume.Key) (idle Idle, err error) {
	set, list, err := findFileSystems(r, size, keys)
	if err != nil {
		return idle, err
	}
	for _, v := range list {
		add := func(start, length int64) error {
			places, err := set.Places(v.Volume, disk.Range{Start: start, Size: length})
			idle.Ranges, idle.Free = append(idle.Ranges, places...), idle.Free+length
			return err
		}
		switch {
		case v.Err != nil:
			idle.Other = append(idle.Other, fmt.Sprintf("%s: %v", v.Name, v.Err))
		case v.fs != nil:
			err = v.fs.IdleRanges(add)
		case v.kind == hibernated:
			err = ErrHibernated
		case v.kind == "swap":
			err = add(swapPage, v.Size-swapPage)
		case v.kind != "":
			idle.Other = append(idle.Other, fmt.Sprintf("%s is %s, of which it is not known what is free", v.Name, v.kind))
		}
		if errors.Is(err, filesystem.ErrNotKnown) {
			idle.Other, err = append(idle.Other, fmt.Sprintf("%s: %v", v.Name, err)), nil
		}
		if err != nil {
			return idle, fmt.Errorf("%s: %w", v.Name, err)
		}
	}
	return idle, nil
}

// swapPage is the page of swap's header, in bytes: on all that runs here.
const swapPage = 4096
