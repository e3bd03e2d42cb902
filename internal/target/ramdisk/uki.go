package ramdisk

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"herdbook/internal/filesystem"
)

// stubPath is systemd-stub: the program that becomes one with a kernel and an initrd.
const stubPath = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// Sizes and places of a PE file's headers (PE32+).
const (
	maxStub       = 4 << 20
	peOffset      = 0x3c // in the file: where its header is
	coffSize      = 4 + 20
	sectionSize   = 40
	atSections    = 4 + 2   // in the header: NumberOfSections
	atImageSize   = 24 + 56 // SizeOfImage
	atChecksum    = 24 + 64
	isInitialised = 0x40000040 // IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_MEM_READ
)

// section is what is laid into the program.
type section struct {
	name string
	size int64
	open func() (io.ReadCloser, error)
}

func textSection(name, text string) section {
	return section{name, int64(len(text)), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

func fileSection(name, path string) (section, error) {
	stat, err := os.Stat(path)
	if err != nil {
		return section{}, err
	}
	return section{name, stat.Size(), func() (io.ReadCloser, error) { return os.Open(path) }}, nil
}

// writeUKI writes the EFI program (UAPI.5 Unified Kernel Image). The kernel is the last in
// memory, since it unpacks itself in place and beyond.
func (w *work) writeUKI() error {
	stub, err := filesystem.ReadFile(w.image.System.Tree(), stubPath, maxStub)
	if err != nil {
		return err
	}
	release, err := filesystem.ReadFile(w.image.System.Tree(), "etc/os-release", 64<<10)
	if err != nil {
		return err
	}
	kernel, err := fileSection(".linux", w.path("vmlinuz"))
	if err != nil {
		return err
	}
	initrd, err := fileSection(".initrd", w.path("initrd"))
	if err != nil {
		return err
	}
	sections := []section{
		textSection(".osrel", string(release)), textSection(".uname", w.kernel.Version),
		textSection(".cmdline", w.CommandLine()), initrd, kernel,
	}
	return writeFile(w.path("efi"), func(out io.Writer) error { return addSections(out, stub, sections) })
}

// addSections writes a program with more sections than it has.
func addSections(out io.Writer, stub []byte, sections []section) error {
	program, err := pe.NewFile(bytes.NewReader(stub))
	if err != nil {
		return fmt.Errorf("read %s: %w", stubPath, err)
	}
	optional, ok := program.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || optional.SectionAlignment == 0 || optional.FileAlignment == 0 {
		return fmt.Errorf("read %s: it is no program for UEFI on amd64", stubPath)
	}
	header := int(binary.LittleEndian.Uint32(stub[peOffset:]))
	table := header + coffSize + int(program.SizeOfOptionalHeader) + sectionSize*len(program.Sections)
	first := int(optional.SizeOfHeaders)
	for _, s := range program.Sections {
		if s.Offset > 0 {
			first = min(first, int(s.Offset))
		}
	}
	if table+sectionSize*len(sections) > first {
		return errors.New("the headers of systemd-stub have no room for more sections; report it as a bug of herdbook")
	}
	// The sections follow the last one, in memory and in the file.
	address, offset := int64(optional.SizeOfImage), round(int64(len(stub)), int64(optional.FileAlignment))
	head := bytes.Clone(stub)
	for i, s := range sections {
		address = round(address, int64(optional.SectionAlignment))
		stored := round(s.size, int64(optional.FileAlignment))
		if address+s.size > math.MaxInt32 || offset+stored > math.MaxInt32 {
			return errors.New("an EFI program has less than 2 GiB: say from which url the root can be fetched, or leave uki away")
		}
		entry := head[table+sectionSize*i:][:sectionSize]
		clear(entry)
		copy(entry, s.name)
		for at, value := range map[int]int64{8: s.size, 12: address, 16: stored, 20: offset, 36: isInitialised} {
			binary.LittleEndian.PutUint32(entry[at:], uint32(value))
		}
		address, offset = address+s.size, offset+stored
	}
	binary.LittleEndian.PutUint16(head[header+atSections:], uint16(len(program.Sections)+len(sections)))
	binary.LittleEndian.PutUint32(head[header+atImageSize:], uint32(round(address, int64(optional.SectionAlignment))))
	binary.LittleEndian.PutUint32(head[header+atChecksum:], 0) // which nobody checks
	if err := writePadded(out, bytes.NewReader(head), int64(len(head)), int64(optional.FileAlignment)); err != nil {
		return err
	}
	for _, s := range sections {
		if err := s.write(out, int64(optional.FileAlignment)); err != nil {
			return err
		}
	}
	return nil
}

func (s section) write(out io.Writer, alignment int64) error {
	r, err := s.open()
	if err != nil {
		return err
	}
	return errors.Join(writePadded(out, r, s.size, alignment), r.Close())
}

func writePadded(out io.Writer, r io.Reader, size, alignment int64) error {
	if _, err := io.CopyN(out, r, size); err != nil {
		return err
	}
	_, err := out.Write(make([]byte, round(size, alignment)-size))
	return err
}

func round(n, to int64) int64 { return (n + to - 1) / to * to }
