package format

import (
	"encoding/binary"
	"encoding/hex"
	"time"

	"herdbook/internal/artefact"
)

// vhdEpoch is what a VHD counts its seconds from.
var vhdEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// vhdFooter is the last sector of a fixed VHD, which is a raw disk but for it.
// "Virtual Hard Disk Image Format Specification" 1.0, "Hard Disk Footer Format".
func vhdFooter(image *artefact.Image) []byte {
	size := image.Disk.Size()
	f := make([]byte, 512)
	copy(f, "conectix")
	be := binary.BigEndian
	be.PutUint32(f[8:], 2)           // features: the reserved bit, which is always set
	be.PutUint32(f[12:], 0x00010000) // version of the format
	be.PutUint64(f[16:], 1<<64-1)    // offset of what follows: a fixed disk has nothing
	be.PutUint32(f[24:], uint32(image.Created.Sub(vhdEpoch)/time.Second))
	copy(f[28:], "qem2")               // who made it: of most makers QEMU takes the geometry below for the size, not of this one;
	be.PutUint32(f[32:], 0x00010000)   // its version,
	copy(f[36:], "Wi2k")               // and its host, of which Windows is the one that all take
	be.PutUint64(f[40:], uint64(size)) // original
	be.PutUint64(f[48:], uint64(size)) // and current
	cylinders, heads, sectors := geometry(size / 512)
	be.PutUint16(f[56:], cylinders)
	f[58], f[59] = heads, sectors
	be.PutUint32(f[60:], 2) // fixed
	id, _ := hex.DecodeString(string(image.Layer[:32]))
	copy(f[68:], id)
	sum := uint32(0)
	for _, b := range f {
		sum += uint32(b)
	}
	be.PutUint32(f[64:], ^sum)
	return f
}

// geometry is the CHS of a disk of so many sectors, by the appendix of the specification,
// "CHS Calculation".
func geometry(total int64) (cylinders uint16, heads, sectors byte) {
	const most = 65535 * 16 * 255
	total = min(total, most)
	var perTrack, h, tracks int64
	if total >= 65535*16*63 {
		perTrack, h = 255, 16
		tracks = total / perTrack
	} else {
		perTrack = 17
		tracks = total / perTrack
		h = max(4, (tracks+1023)/1024)
		if tracks >= h*1024 || h > 16 {
			perTrack, h = 31, 16
			tracks = total / perTrack
		}
		if tracks >= h*1024 {
			perTrack, h = 63, 16
			tracks = total / perTrack
		}
	}
	return uint16(tracks / h), byte(h), byte(perTrack)
}
