package pkgdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The ndb format (rpm's lib/backend/ndb/rpmpkg.c): pages of slots, then the blobs
// that they tell of, in blocks of 16 bytes. All numbers are little endian.
const (
	ndbPage      = 4096
	ndbSlot      = 16
	ndbBlock     = 16
	ndbHead      = 32 // bytes of the file's head, where the first slots would be
	ndbBlobHead  = 16
	ndbBlobTail  = 12
	ndbMagic     = "RpmP"
	ndbSlotMagic = "Slot"
	ndbBlobMagic = "BlbS"
)

// ndbPackages adds the packages of a Packages.db.
func ndbPackages(f *file, add adder) error {
	head, err := f.at(0, ndbHead)
	if err != nil {
		return err
	}
	version, pages := binary.LittleEndian.Uint32(head[4:]), int64(binary.LittleEndian.Uint32(head[12:]))
	if string(head[:4]) != ndbMagic || version != 0 {
		return fmt.Errorf("it is no ndb database of version 0: magic %q, version %d", head[:4], version)
	}
	if pages > f.size/ndbPage {
		return fmt.Errorf("its %d pages of slots are more than it has bytes for", pages)
	}
	left := f.size // of the blobs: none overlaps another
	for page := range pages {
		slots, err := f.at(page*ndbPage, ndbPage)
		if err != nil {
			return err
		}
		if page == 0 {
			slots = slots[ndbHead:]
		}
		for ; len(slots) > 0; slots = slots[ndbSlot:] {
			if string(slots[:4]) != ndbSlotMagic {
				return fmt.Errorf("page %d has a slot with the magic %q", page, slots[:4])
			}
			blob, err := f.ndbBlob(slots[4:ndbSlot], pages*ndbPage)
			if err != nil {
				return err
			}
			if blob == nil {
				continue
			}
			if left -= blob.Size(); left < 0 {
				return errors.New("its blobs overlap")
			}
			p, err := readHeader(blob)
			if err != nil {
				return err
			}
			if err := add(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// ndbBlob is what a slot tells of, in bytes behind the slots; nil for an empty slot.
func (f *file) ndbBlob(slot []byte, behind int64) (*io.SectionReader, error) {
	le := binary.LittleEndian
	number, offset, blocks := le.Uint32(slot), int64(le.Uint32(slot[4:]))*ndbBlock, int64(le.Uint32(slot[8:]))
	if offset == 0 {
		return nil, nil
	}
	if offset < behind {
		return nil, fmt.Errorf("blob %d lies among the slots", number)
	}
	head, err := f.at(offset, ndbBlobHead)
	if err != nil {
		return nil, err
	}
	length := int64(le.Uint32(head[12:]))
	switch {
	case string(head[:4]) != ndbBlobMagic || le.Uint32(head[4:]) != number:
		return nil, fmt.Errorf("there is no blob %d at byte %d", number, offset)
	case blocks != (ndbBlobHead+length+ndbBlobTail+ndbBlock-1)/ndbBlock || offset+blocks*ndbBlock > f.size:
		return nil, fmt.Errorf("blob %d has %d bytes in %d blocks at byte %d", number, length, blocks, offset)
	}
	return io.NewSectionReader(f, offset+ndbBlobHead, length), nil
}
