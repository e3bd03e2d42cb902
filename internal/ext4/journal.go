package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"herdbook/internal/filesystem"
)

// The journal (jbd2) is big-endian. Only what recovery needs is here: which
// blocks the committed transactions wrote, and which of them were revoked.
const (
	journalMagic = 0xC03B3998
	journalEnd   = 0xffffffff

	blockDescriptor = 1
	blockCommit     = 2
	blockRevoke     = 5

	journalRevoke  = 0x1
	journal64bit   = 0x2
	journalCsumV2  = 0x8
	journalCsumV3  = 0x10
	journalAsync   = 0x4
	journalFast    = 0x20
	journalKnown   = journalRevoke | journal64bit | journalCsumV2 | journalCsumV3 | journalAsync | journalFast
	tagEscaped     = 0x1
	tagSameUUID    = 0x2
	tagLast        = 0x8
	maxReplay      = 1 << 30 // bytes of journal that are held in memory
	maxJournalSize = 1 << 36
)

type journal struct {
	f        *FS
	file     *content
	block    int64
	first    uint32 // first block of the log
	end      uint32 // behind the last
	start    uint32
	sequence uint32
	features uint32
	seed     uint32
	revoked  map[uint64]uint32 // block → the last transaction that revoked it
}

// replay reads the journal and remembers what it would write back.
func (f *FS) replay() error {
	if f.compat&compatHasJournal == 0 || f.journalInode == 0 {
		return errors.New("the file system was not unmounted cleanly, and its journal is on another device")
	}
	j, err := f.openJournal()
	if err != nil {
		return err
	}
	if j.start == 0 {
		return nil // it was written back
	}
	// Revocations of later transactions forbid writes of earlier ones, so they
	// are gathered first.
	if err := j.each(func(sequence uint32, number uint64, _ []byte) error {
		return nil
	}, true); err != nil {
		return err
	}
	replayed, held := map[uint64][]byte{}, int64(0)
	err = j.each(func(sequence uint32, number uint64, data []byte) error {
		if last, ok := j.revoked[number]; ok && int32(last-sequence) >= 0 {
			return nil
		}
		if number >= f.blocks {
			return corrupt("the journal writes block %d of %d", number, f.blocks)
		}
		if _, again := replayed[number]; !again {
			if held += f.block; held > maxReplay {
				return fmt.Errorf("it holds more than %d MiB; mount and unmount the image once", maxReplay>>20)
			}
		}
		replayed[number] = data
		return nil
	}, false)
	if err != nil {
		return err
	}
	f.replayed = replayed
	return nil
}

// openJournal finds the journal and reads its superblock.
func (f *FS) openJournal() (*journal, error) {
	n, err := f.inode(f.journalInode)
	if err != nil {
		return nil, err
	}
	if n.kind() != filesystem.ModeRegular || n.Size > maxJournalSize {
		return nil, corrupt("inode %d is no journal", f.journalInode)
	}
	file, err := f.content(n)
	if err != nil {
		return nil, err
	}
	j := &journal{f: f, file: file, revoked: map[uint64]uint32{}}
	return j, j.readSuper()
}

func (j *journal) readSuper() error {
	p := make([]byte, 1024)
	if _, err := j.file.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	be := binary.BigEndian
	kind := be.Uint32(p[4:])
	if be.Uint32(p) != journalMagic || kind != 3 && kind != 4 {
		return corrupt("the journal has no superblock")
	}
	j.block, j.end, j.first = int64(be.Uint32(p[0xC:])), be.Uint32(p[0x10:]), be.Uint32(p[0x14:])
	j.sequence, j.start = be.Uint32(p[0x18:]), be.Uint32(p[0x1C:])
	if kind == 4 {
		j.features = be.Uint32(p[0x28:])
	}
	if unknown := j.features &^ journalKnown; unknown != 0 {
		return fmt.Errorf("this reader does not know the journal feature 0x%x", unknown)
	}
	if j.features&journalFast != 0 && j.start != 0 {
		return errors.New("it has fast commits, which this reader does not replay; mount and unmount the image once")
	}
	if j.block != j.f.block || j.first == 0 || j.first >= j.end || int64(j.end)*j.block > j.file.n.Size || j.start >= j.end {
		return corrupt("the journal's superblock contradicts itself")
	}
	j.seed = crc(^uint32(0), p[0x30:0x40])
	return nil
}

func (j *journal) read(at uint32) ([]byte, error) {
	p := make([]byte, j.block)
	if _, err := j.file.ReadAt(p, int64(at)*j.block); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return p, nil
}

// next is the block behind at; the log is a ring.
func (j *journal) next(at, count uint32) uint32 {
	size := j.end - j.first
	return j.first + uint32((uint64(at-j.first)+uint64(count))%uint64(size))
}

// write is one block of a transaction that is not yet committed.
type write struct {
	number uint64
	data   []byte
}

// each goes through the committed transactions. With gather it collects
// revocations, else it calls fn for every block that they write. What follows
// the last commit was never promised to anybody and is left out.
func (j *journal) each(fn func(sequence uint32, number uint64, data []byte) error, gather bool) error {
	at, sequence := j.start, j.sequence
	var writes []write
	var revokes []uint64
	for steps := uint32(0); steps < j.end-j.first; {
		p, err := j.read(at)
		if err != nil {
			return err
		}
		be := binary.BigEndian
		if be.Uint32(p) != journalMagic || be.Uint32(p[8:]) != sequence {
			return nil
		}
		used := uint32(1)
		switch be.Uint32(p[4:]) {
		case blockDescriptor:
			more, err := j.descriptor(p, at, !gather)
			if err != nil || more == nil {
				return err
			}
			writes, used = append(writes, more...), used+uint32(len(more))
		case blockRevoke:
			more, ok := j.revocations(p)
			if !ok {
				return nil
			}
			revokes = append(revokes, more...)
		case blockCommit:
			for _, number := range revokes {
				j.revoked[number] = sequence
			}
			for _, w := range writes {
				if gather {
					break
				}
				if err := fn(sequence, w.number, w.data); err != nil {
					return err
				}
			}
			writes, revokes = nil, nil
			sequence++
		default:
			return nil
		}
		at, steps = j.next(at, used), steps+used
	}
	return nil
}

// descriptor reads a descriptor block and, if asked, the blocks that it
// announces. No result and no error means that the log ends here: what a crash
// cut short does not match its checksum.
func (j *journal) descriptor(p []byte, at uint32, load bool) ([]write, error) {
	be := binary.BigEndian
	end := len(p)
	if j.features&(journalCsumV2|journalCsumV3) != 0 {
		end -= 4
		if crc(crc(j.seed, p[:end]), []byte{0, 0, 0, 0}) != be.Uint32(p[end:]) {
			return nil, nil
		}
	}
	writes := []write{}
	for off := 12; off+8 <= end; {
		number, flags, size := j.tag(p[off:end])
		if size == 0 {
			return nil, corrupt("a journal tag is cut short")
		}
		off += size
		if flags&tagSameUUID == 0 {
			off += 16
		}
		w := write{number: number}
		if load {
			data, err := j.read(j.next(at, uint32(len(writes))+1))
			if err != nil {
				return nil, err
			}
			if flags&tagEscaped != 0 { // it began with the journal's own magic
				be.PutUint32(data, journalMagic)
			}
			w.data = data
		}
		writes = append(writes, w)
		if flags&tagLast != 0 || uint32(len(writes)) >= j.end-j.first {
			break
		}
	}
	return writes, nil
}

// tag reads one tag; a size of 0 says that it does not fit.
func (j *journal) tag(p []byte) (number uint64, flags uint32, size int) {
	be := binary.BigEndian
	if j.features&journalCsumV3 != 0 {
		if len(p) < 16 {
			return 0, 0, 0
		}
		number = uint64(be.Uint32(p))
		if j.features&journal64bit != 0 {
			number |= uint64(be.Uint32(p[8:])) << 32
		}
		return number, be.Uint32(p[4:]), 16
	}
	size = 8
	if j.features&journal64bit != 0 {
		size = 12
	}
	if j.features&journalCsumV2 != 0 {
		size += 2
	}
	if len(p) < size {
		return 0, 0, 0
	}
	number = uint64(be.Uint32(p))
	if j.features&journal64bit != 0 {
		number |= uint64(be.Uint32(p[8:])) << 32
	}
	return number, uint32(be.Uint16(p[6:])), size
}

// revocations reads a revoke block; false says that the log ends here.
func (j *journal) revocations(p []byte) ([]uint64, bool) {
	be := binary.BigEndian
	if j.features&(journalCsumV2|journalCsumV3) != 0 {
		end := len(p) - 4
		if crc(crc(j.seed, p[:end]), []byte{0, 0, 0, 0}) != be.Uint32(p[end:]) {
			return nil, false
		}
	}
	size := 4
	if j.features&journal64bit != 0 {
		size = 8
	}
	count := int(be.Uint32(p[12:]))
	if count < 16 || count > len(p) {
		return nil, false
	}
	var numbers []uint64
	for off := 16; off+size <= count; off += size {
		if size == 8 {
			numbers = append(numbers, be.Uint64(p[off:]))
		} else {
			numbers = append(numbers, uint64(be.Uint32(p[off:])))
		}
	}
	return numbers, true
}
