package lvm

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// Disk is what metadata are changed on.
type Disk interface {
	io.ReaderAt
	io.WriterAt
}

// Rename gives a physical volume of size bytes, and all that its metadata name, other
// identifiers: those that are keys of a map become its values, all in LVM's form with dashes.
// Nothing else of the metadata changes, not even their length. The volume group must be used by nobody.
//
// The label is written last, since it alone says which of the members this is.
func Rename(d Disk, size int64, identifiers map[string]string) error {
	var pairs []string
	for old, fresh := range identifiers {
		if !identifier.MatchString(old) || !identifier.MatchString(fresh) {
			return fmt.Errorf("rename LVM volumes: %q or %q is no identifier", old, fresh)
		}
		pairs = append(pairs, old, fresh)
	}
	label, err := findLabel(d, size)
	if err != nil {
		return err
	}
	areas, err := metadataAreas(label)
	if err != nil {
		return err
	}
	replacer := strings.NewReplacer(pairs...)
	for _, a := range areas {
		if err := a.rename(d, size, replacer); err != nil {
			return fmt.Errorf("rename LVM volumes: %w", err)
		}
	}
	return renameLabel(d, size, identifiers)
}

// rename changes the text of a metadata area in its place.
func (a area) rename(d Disk, size int64, replacer *strings.Replacer) error {
	text, err := a.read(d, size)
	if err != nil || text == nil {
		return err
	}
	fresh := []byte(replacer.Replace(string(text)))
	h := make([]byte, sector)
	if _, err := d.ReadAt(h, a.offset); err != nil {
		return fmt.Errorf("read metadata area: %w", err)
	}
	le := binary.LittleEndian
	offset := int64(le.Uint64(h[40:]))
	first := min(int64(len(fresh)), a.size-offset)
	if _, err := d.WriteAt(fresh[:first], a.offset+offset); err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	if _, err := d.WriteAt(fresh[first:], a.offset+sector); err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	le.PutUint32(h[56:], sum(fresh))
	le.PutUint32(h, sum(h[4:]))
	if _, err := d.WriteAt(h, a.offset); err != nil {
		return fmt.Errorf("write metadata area: %w", err)
	}
	return nil
}

// renameLabel writes the identifier of the physical volume itself.
func renameLabel(d Disk, size int64, identifiers map[string]string) error {
	head := make([]byte, min(size, 4*sector))
	if _, err := d.ReadAt(head, 0); err != nil {
		return fmt.Errorf("read LVM label: %w", err)
	}
	i, at, err := labelIn(head)
	if err != nil {
		return err
	}
	s := head[i*sector:][:sector]
	fresh, ok := identifiers[dashed(string(s[at:][:idLength]))]
	if !ok {
		return nil
	}
	copy(s[at:], strings.ReplaceAll(fresh, "-", ""))
	binary.LittleEndian.PutUint32(s[16:], sum(s[20:]))
	if _, err := d.WriteAt(s, int64(i*sector)); err != nil {
		return fmt.Errorf("write LVM label: %w", err)
	}
	return nil
}
