package disk

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
)

const (
	vmdkMagic         = "KDMV"
	vmdkDescriptorAt  = 1 * sector       // where every writer puts it, and QEMU looks for a parent
	vmdkDescriptorMin = 20 * sector      // what QEMU reads of it
	vmdkDescriptorMax = 128 * sector     // what is read of it here
	vmdkFooter        = ^uint64(0)       // the grain directory is in a footer
	vmdkNewline       = "\n \r\n"        // a transfer as text would have changed it
	vmdkNoParent      = "ffffffff"       // in descriptors
	vmdkParentHint    = "parentfilename" // with and without Hint, in lower case
)

// vmdkHeader is what the header of a sparse extent says; places are in bytes.
type vmdkHeader struct {
	flags       uint32
	compression uint16
	size        int64 // of the disk
	grain       uint64
	perTable    uint32
	directory   uint64
	redundant   uint64
}

func parseVMDK(h []byte) vmdkHeader {
	le := binary.LittleEndian
	return vmdkHeader{
		flags: le.Uint32(h[8:]), compression: le.Uint16(h[77:]), size: int64(le.Uint64(h[12:])) * sector,
		grain: le.Uint64(h[20:]), perTable: le.Uint32(h[44:]), directory: le.Uint64(h[56:]), redundant: le.Uint64(h[48:]),
	}
}

// foreignVMDK checks a sparse extent (KDMV) with the descriptor in it. QEMU goes
// by the header, and by the descriptor for a parent; but where the header gives
// a capacity of 0 it opens whatever extents the descriptor names, be it a file
// of the host. Both must say that the disk is all in this file. It returns the
// header or, of a stream, its copy at the end.
func foreignVMDK(r io.ReaderAt, size int64) (vmdkHeader, error) {
	var none vmdkHeader
	h := make([]byte, sector)
	if err := readFull(r, h, 0); err != nil {
		return none, corrupt("it is too short for a header")
	}
	le := binary.LittleEndian
	version, capacity, at, length := le.Uint32(h[4:]), le.Uint64(h[12:]), le.Uint64(h[28:]), le.Uint64(h[36:])
	switch {
	case string(h[:4]) != vmdkMagic:
		return none, corrupt("it is no vmdk image in one file")
	case version < 1 || version > 3:
		return none, refuse("version %d is none that herdbook reads: 1 to 3", version)
	case string(h[73:77]) != vmdkNewline && string(h[73:77]) != "\x00\x00\x00\x00": // some leave it out
		return none, corrupt("its newlines are changed: it was transferred as a text")
	case capacity == 0:
		return none, refuse("its header gives no capacity, so that its data is in other files")
	case capacity > MaxImport/sector:
		return none, refuse("its disk has %d sectors; at most 64 TiB are imported", capacity)
	case at == 0 || length == 0:
		return none, refuse("it has no descriptor: it is one part of a disk that is in several files")
	case at*sector != vmdkDescriptorAt || length > vmdkDescriptorMax/sector:
		return none, refuse("its descriptor has %d sectors at sector %d; at most %d at 1 are read", length, at, vmdkDescriptorMax/sector)
	}
	header := h
	if le.Uint64(h[56:]) == vmdkFooter {
		footer, err := readVMDKFooter(r, size, h)
		if err != nil {
			return none, err
		}
		header = footer
	}
	text := make([]byte, min(max(int64(length)*sector, vmdkDescriptorMin), size-vmdkDescriptorAt))
	if err := readFull(r, text, vmdkDescriptorAt); err != nil {
		return none, corrupt("it is too short for its descriptor")
	}
	text, _, _ = bytes.Cut(text, []byte{0})
	return parseVMDK(header), checkVMDKDescriptor(string(text))
}

// readVMDKFooter reads the copy of the header that stands before the end of a
// stream. QEMU takes it for the header, so its version and size must be that.
func readVMDKFooter(r io.ReaderAt, size int64, header []byte) ([]byte, error) {
	footer := make([]byte, sector)
	if size < 4*sector || size%sector != 0 || readFull(r, footer, size-2*sector) != nil {
		return nil, corrupt("%d bytes do not end in a footer: is it cut short?", size)
	}
	if !bytes.Equal(footer[:8], header[:8]) || !bytes.Equal(footer[12:20], header[12:20]) {
		return nil, corrupt("its footer is not that of its header: is it cut short?")
	}
	return footer, nil
}

// checkVMDKDescriptor checks the text in a sparse extent: one extent, which is
// this file, and no parent.
func checkVMDKDescriptor(text string) error {
	var extents int
	var kind string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		switch strings.ToUpper(strings.Fields(line)[0]) {
		case "RW", "RDONLY", "NOACCESS":
			if err := checkVMDKExtent(line); err != nil {
				return err
			}
			extents++
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "createtype":
			kind = value
		case "parentcid":
			if strings.ToLower(value) != vmdkNoParent {
				return refuse("it stands on another image (parentCID=%.20q); clone it to one file", value)
			}
		}
	}
	switch {
	case strings.Contains(strings.ToLower(text), vmdkParentHint):
		return refuse("its descriptor names a parent; clone it to one file")
	case kind != "monolithicSparse" && kind != "streamOptimized":
		return refuse("its createType is %.40q; herdbook imports monolithicSparse and streamOptimized", kind)
	case extents != 1:
		return refuse("its descriptor names %d extents; a disk in one file has one", extents)
	}
	return nil
}

// checkVMDKExtent checks a line such as RW 4096 SPARSE "disk.vmdk". The name is
// that which the file had when it was written; nothing follows it.
func checkVMDKExtent(line string) error {
	before, rest, _ := strings.Cut(line, `"`)
	name, after, closed := strings.Cut(rest, `"`)
	fields := strings.Fields(before)
	switch {
	case len(fields) == 3 && fields[2] != "SPARSE":
		return refuse("its descriptor has an extent that is in another file: %.100q", line)
	case len(fields) != 3 || !closed || strings.TrimSpace(after) != "":
		return refuse("its descriptor has an extent that is not understood: %.100q", line)
	}
	if strings.ContainsAny(name, `/\`) {
		return refuse("its descriptor names a file at another place: %.100q", name)
	}
	return nil
}
