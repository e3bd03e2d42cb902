package xfs

import "encoding/binary"

const (
	transactionMagic = 0x5452414e
	itemBuffer       = 0x123c // some blocks of the disk
)

// onlySuperblocks tells whether the operations of a record are whole transactions
// that write nothing but the superblock. Before it is frozen, and some minutes
// after its last change, XFS writes two of them behind all else, so that
// the tail of the log comes past what is in its place by then.
func onlySuperblocks(data []byte, ops uint32) bool {
	be := binary.BigEndian
	open := map[uint32]*transaction{}
	for range ops {
		if len(data) < opSize {
			return false
		}
		id, size, flags := be.Uint32(data), uint64(be.Uint32(data[4:])), data[9]
		if uint64(len(data)-opSize) < size || flags&(opContinued|opEnd|opUnmount) != 0 {
			return false
		}
		body := data[opSize:][:size]
		data = data[opSize+size:]
		t := open[id]
		switch {
		case flags&opStart != 0 && t == nil && size == 0:
			open[id] = &transaction{}
		case flags&opCommit != 0 && t != nil && t.begun && t.regions == 0:
			delete(open, id)
		case t == nil || !t.add(body):
			return false
		}
	}
	return len(open) == 0
}

// transaction is what has been seen of one.
type transaction struct {
	begun   bool
	regions int // that the item must still have
}

// add takes the next region of a transaction: first its header; then of each item a
// description, and as many regions of data as that says. It tells whether the
// item may be.
func (t *transaction) add(p []byte) bool {
	le := binary.LittleEndian
	switch {
	case !t.begun:
		t.begun = len(p) == 16 && le.Uint32(p) == transactionMagic
		return t.begun
	case t.regions > 0:
		t.regions--
		return true
	case len(p) < 24 || le.Uint16(p) != itemBuffer || le.Uint64(p[8:]) != 0: // its place is not the first sector
		return false
	}
	t.regions = int(le.Uint16(p[2:])) - 1
	return t.regions >= 0
}
