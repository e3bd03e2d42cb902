// Package uuid is about the identifiers by which a disk's file systems and LVM's
// volumes are known: a list of those that are to be others, the change of the few
// that are bytes at a known place, and the change of files that say them. Where
// checksums hang on an identifier, the file system's own program has to change it.
package uuid

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"herdbook/internal/mapper"
)

// Change is an identifier on a disk, and the one that it is to be replaced by.
type Change struct {
	Source mapper.Source `json:"source"` // where it is; of a VolumeGroup, nowhere in particular
	Type   Type          `json:"type"`
	Old    string        `json:"old"` // as its own tools write it
	New    string        `json:"new"`
}

// Type tells what has the identifier.
type Type string

// The types.
const (
	Ext            Type = "ext4" // and its predecessors
	XFS            Type = "xfs"
	Btrfs          Type = "btrfs"
	FAT            Type = "vfat"
	Swap           Type = "swap"
	PhysicalVolume Type = "LVM physical volume"
	VolumeGroup    Type = "LVM volume group"
)

// OfLVM tells whether LVM has it, and no file system.
func (t Type) OfLVM() bool { return t == PhysicalVolume || t == VolumeGroup }

// Renew gives every volume of a list a new identifier, made of random bytes. An
// identifier that the disk has twice is an error: nobody could tell which of the two
// a file means.
func Renew(list []Change, random io.Reader) error {
	seen := map[string]bool{}
	for i := range list {
		id := &list[i]
		if key := strings.ToLower(id.Old); seen[key] {
			return fmt.Errorf("the disk has the identifier %s twice; change one of the two first", id.Old)
		} else {
			seen[key] = true
		}
		var err error
		if id.New, err = fresh(id.Type, random); err != nil {
			return fmt.Errorf("make a new identifier: %w", err)
		}
	}
	return nil
}

// lvmAlphabet is that of LVM's identifiers, but for its two signs.
const lvmAlphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func fresh(t Type, random io.Reader) (string, error) {
	p := make([]byte, 32)
	if _, err := io.ReadFull(random, p); err != nil {
		return "", err
	}
	switch t {
	case FAT:
		return strings.ToUpper(hex.EncodeToString(p[:2]) + "-" + hex.EncodeToString(p[2:4])), nil
	case PhysicalVolume, VolumeGroup:
		for i := range p {
			p[i] = lvmAlphabet[int(p[i])%len(lvmAlphabet)]
		}
		s := string(p)
		return strings.Join([]string{s[:6], s[6:10], s[10:14], s[14:18], s[18:22], s[22:26], s[26:]}, "-"), nil
	}
	p[6], p[8] = p[6]&0x0f|0x40, p[8]&0x3f|0x80 // version 4 of RFC 9562: random
	s := hex.EncodeToString(p[:16])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-"), nil
}
