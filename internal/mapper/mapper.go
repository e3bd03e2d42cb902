// Package mapper describes devices of the kernel's device-mapper as plain data:
// what the host finds out about the layers inside of an image, and the agent in
// the guest has its kernel assemble. It makes no device itself.
//
// The tables are those of the kernel's Documentation/admin-guide/device-mapper;
// sectors have 512 bytes everywhere.
package mapper

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Source is where a device or a file system gets its bytes from: a partition, or
// another device.
type Source struct {
	Partition int    `json:"partition,omitempty"` // number on the disk; 0 is the whole disk
	Device    string `json:"device,omitempty"`    // name of a Device; then there is no partition
}

// String tells people.
func (s Source) String() string {
	switch {
	case s.Device != "":
		return "/dev/mapper/" + s.Device
	case s.Partition == 0:
		return "the whole disk"
	}
	return fmt.Sprint("partition ", s.Partition)
}

// Device is one device to be made.
type Device struct {
	Name     string   `json:"name"` // below /dev/mapper
	UUID     string   `json:"uuid,omitempty"`
	ReadOnly bool     `json:"read_only,omitempty"`
	Table    []Target `json:"table"`
}

// Target is one row of a device's table. Its Type says which fields have a meaning.
type Target struct {
	Start  int64  `json:"start"`  // in sectors of the device
	Length int64  `json:"length"` // sectors
	Type   Type   `json:"type"`
	Areas  []Area `json:"areas"`           // one, but for striped and mirror
	Chunk  int64  `json:"chunk,omitempty"` // sectors of an area before it is the next one's turn; striped
	Crypt  *Crypt `json:"crypt,omitempty"` // crypt
}

// Type is a type of target, as the kernel names it.
type Type string

// The types that are in use here.
const (
	Linear  Type = "linear"
	Striped Type = "striped"
	Mirror  Type = "mirror"
	Crypted Type = "crypt"
)

// Area is where a target's bytes are.
type Area struct {
	Source Source `json:"source"`
	Offset int64  `json:"offset"` // sectors
}

// Crypt is how an area is encrypted.
type Crypt struct {
	Cipher     string `json:"cipher"` // aes-xts-plain64
	Key        Key    `json:"key"`
	IVOffset   int64  `json:"iv_offset,omitempty"`
	SectorSize int    `json:"sector_size"` // bytes
}

// Key is the key of an encrypted device. It crosses the wire in clear and must be
// shown nowhere: it prints as stars.
type Key []byte

func (k Key) String() string { return "***" }

// GoString implements fmt.GoStringer.
func (k Key) GoString() string { return k.String() }

// Format implements fmt.Formatter, for every verb.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// Format implements fmt.Formatter: behind a pointer, a verb that does not fit would
// print the bytes of the key.
func (c Crypt) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "{%s, key %s, sectors of %d from %d}", c.Cipher, c.Key, c.SectorSize, c.IVOffset)
}

// Hex is the key as the kernel takes it.
func (k Key) Hex() string { return hex.EncodeToString(k) }

// Keys are the keys of devices as they could appear in a text, to be blotted out.
func Keys(devices []Device) []string {
	var keys []string
	for _, d := range devices {
		for _, t := range d.Table {
			if t.Crypt != nil {
				keys = append(keys, t.Crypt.Key.Hex())
			}
		}
	}
	return keys
}

// regionSize is what a mirror's log counts in, in sectors. With a log in memory
// that takes all for equal from the start, it matters to nobody.
const regionSize = 1024

// Parameters are what the kernel is told of a target; node gives the device node
// of a source. They may hold a key.
func (t Target) Parameters(node func(Source) string) string {
	var words []any
	areas := func() {
		for _, a := range t.Areas {
			words = append(words, node(a.Source), a.Offset)
		}
	}
	switch t.Type {
	case Striped:
		words = append(words, len(t.Areas), t.Chunk)
		areas()
	case Mirror:
		// nosync: the members are the same already.
		words = append(words, "core", 2, regionSize, "nosync", len(t.Areas))
		areas()
	case Crypted:
		words = append(words, t.Crypt.Cipher, t.Crypt.Key.Hex(), t.Crypt.IVOffset)
		areas()
		// The guest's blocks are given back by who wants it so.
		options := []any{"allow_discards"}
		if t.Crypt.SectorSize != 512 {
			options = append(options, fmt.Sprint("sector_size:", t.Crypt.SectorSize))
		}
		words = append(append(words, len(options)), options...)
	default:
		areas()
	}
	return strings.TrimSuffix(fmt.Sprintln(words...), "\n")
}

// Needed are those of devices that sources stand on, in the same order: what one
// stands on comes before it.
func Needed(devices []Device, sources ...Source) []Device {
	wanted := map[string]bool{}
	for _, s := range sources {
		wanted[s.Device] = true
	}
	keep := make([]bool, len(devices))
	for i := len(devices) - 1; i >= 0; i-- {
		if !wanted[devices[i].Name] {
			continue
		}
		keep[i] = true
		for _, t := range devices[i].Table {
			for _, a := range t.Areas {
				wanted[a.Source.Device] = true
			}
		}
	}
	var needed []Device
	for i, d := range devices {
		if keep[i] {
			needed = append(needed, d)
		}
	}
	return needed
}
