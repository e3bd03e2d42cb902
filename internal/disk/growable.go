package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// Growable says why the disk in an image cannot be made larger, if QEMU would
// refuse: it does so where a qcow2 of version 2 has internal snapshots, which do not
// say what size they have.
func Growable(path string, format Format) (err error) {
	if format != QCOW2 {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open disk image: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	header := make([]byte, 64)
	if err := readFull(file, header, 0); err != nil {
		return fmt.Errorf("read disk image %s: %w", path, err)
	}
	be := binary.BigEndian
	if n := be.Uint32(header[60:]); be.Uint32(header[4:]) == 2 && n > 0 {
		return fmt.Errorf("disk image %s cannot grow: it has %d internal snapshots and is of qcow2's version 2; make it one of 3 with qemu-img amend -o compat=1.1", path, n)
	}
	return nil
}
