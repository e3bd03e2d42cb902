package kmod

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// maxFirmware bounds the files that one module names: those of network cards name some
// twenty, those of graphics cards some hundreds.
const maxFirmware = 1000

// FirmwareNames lists the files that a module may ask the kernel for, by their names below
// lib/firmware.
func FirmwareNames(module []byte) ([]string, error) {
	info, err := sectionOf(module, ".modinfo")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range bytes.SplitSeq(info, []byte{0}) {
		name, ok := strings.CutPrefix(string(line), "firmware=")
		if !ok || !fs.ValidPath(name) || name == "." {
			continue // as the kernel has it, what leads out of the directory is none
		}
		if names = append(names, name); len(names) > maxFirmware {
			return nil, fmt.Errorf("it names more than %d files of firmware", maxFirmware)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// sectionOf is what a section of a module has; nil if there is none of the name.
func sectionOf(module []byte, name string) ([]byte, error) {
	var head elf.Header64
	_, err := binary.Decode(module, binary.LittleEndian, &head)
	if err != nil || !bytes.HasPrefix(module, []byte(elf.ELFMAG+"\x02\x01")) {
		return nil, errors.New("it is no ELF file of 64 bits")
	}
	sections := make([]elf.Section64, head.Shnum)
	table := within(module, head.Shoff, uint64(binary.Size(sections)))
	if _, err := binary.Decode(table, binary.LittleEndian, sections); err != nil || int(head.Shstrndx) >= len(sections) {
		return nil, errors.New("it ends before its sections")
	}
	names := within(module, sections[head.Shstrndx].Off, sections[head.Shstrndx].Size)
	for _, s := range sections {
		rest := within(names, uint64(s.Name), uint64(len(name)+1))
		if string(rest) == name+"\x00" {
			return within(module, s.Off, s.Size), nil
		}
	}
	return nil, nil
}

// within is a part of a file; nil if not all of it is there.
func within(file []byte, at, size uint64) []byte {
	if n := uint64(len(file)); at > n || size > n-at {
		return nil
	}
	return file[at : at+size]
}

// Firmware is a file that a module asks for, decompressed, from where the kernel would have
// it; fs.ErrNotExist if it is not there.
func (m *Modules) Firmware(name string) ([]byte, error) {
	version := path.Base(m.dir)
	for _, ending := range []string{"", ".zst", ".xz"} {
		for _, dir := range []string{"updates/" + version, "updates", version, "."} {
			file := path.Join("lib/firmware", dir, name+ending)
			stat, err := fs.Stat(m.tree, file)
			if errors.Is(err, fs.ErrNotExist) || err == nil && !stat.Mode().IsRegular() {
				continue
			}
			if err != nil {
				return nil, err
			}
			content, err := readFile(m.tree, file)
			if err == nil && ending != "" {
				content, err = decompress(file, content)
			}
			if err != nil {
				return nil, fmt.Errorf("read firmware %s: %w", file, err)
			}
			return content, nil
		}
	}
	return nil, &fs.PathError{Op: "find firmware", Path: name, Err: fs.ErrNotExist}
}
