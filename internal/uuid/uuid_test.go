package uuid

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/peer"
)

const (
	oldUUID = "38ea5f6e-0a1b-4c2d-9e3f-0123456789ab"
	newUUID = "7d1c9a20-1111-4222-8333-cdefcdefcdef"
	oldPV   = "AbCdEf-0123-4567-89ab-cdef-GHIJ-KLMNOP"
	newPV   = "ZZZZZZ-yyyy-xxxx-wwww-vvvv-uuuu-tttttt"
)

var changes = []Change{
	{Type: Ext, Old: oldUUID, New: newUUID}, {Type: FAT, Old: "9E16-250E", New: "AAAA-BBBB"}, {Type: PhysicalVolume, Old: oldPV, New: newPV},
}

func TestReplacement(t *testing.T) {
	r := NewReplacement(changes)
	for _, c := range []struct{ in, want string }{
		{"UUID=" + oldUUID + " / ext4", "UUID=" + newUUID + " / ext4"},
		{"uuid " + strings.ToUpper(oldUUID) + " and " + oldUUID, "uuid " + newUUID + " and " + newUUID},
		{"gnulinux-6.1-advanced-" + oldUUID + "'", "gnulinux-6.1-advanced-" + newUUID + "'"},
		{"resume=/dev/disk/by-uuid/" + oldUUID, "resume=/dev/disk/by-uuid/" + newUUID},
		{oldUUID, newUUID},
		{"UUID=9E16-250E /boot/efi", "UUID=AAAA-BBBB /boot/efi"},
		{"/dev/disk/by-uuid/9e16-250e", "/dev/disk/by-uuid/AAAA-BBBB"},
		{"lvmid/" + oldPV + "/" + oldPV, "lvmid/" + newPV + "/" + newPV},
		{"PVID=AbCdEf0123456789abcdefGHIJKLMNOP", "PVID=ZZZZZZyyyyxxxxwwwwvvvvuuuutttttt"},
		// Not the whole of what stands there.
		{"a" + oldUUID, ""}, {oldUUID + "0", ""}, {oldUUID[1:], ""}, {"12345678-9e16-250e-aaaa-bbbbbbbbbbbb", ""}, {"x9E16-250E", ""}, {"9E16-250E-1", ""},
		{strings.ToLower(oldPV), ""}, {"", ""}, {"\x00\xff", ""},
	} {
		in := []byte(c.in)
		got, any := r.In(in)
		want := c.want
		if want == "" {
			want = c.in
		}
		if string(got) != want || any != (c.want != "") || string(in) != c.in {
			t.Errorf("%q became %q, %v", c.in, got, any)
		}
	}
}

// What replaces one is not replaced again, even if it is another's old one.
func TestReplacementOfASwap(t *testing.T) {
	r := NewReplacement([]Change{{Type: Ext, Old: oldUUID, New: newUUID}, {Type: XFS, Old: newUUID, New: oldUUID}})
	if got, _ := r.In([]byte(oldUUID + " " + newUUID)); string(got) != newUUID+" "+oldUUID {
		t.Errorf("%s", got)
	}
}

func FuzzReplacement(f *testing.F) {
	f.Add([]byte("UUID="+oldUUID+" 9e16-250E"), []byte(oldPV))
	r := NewReplacement(changes)
	f.Fuzz(func(t *testing.T, before, after []byte) {
		content := append(bytes.Clone(before), after...)
		got, any := r.In(content)
		if len(got) != len(content) || any == bytes.Equal(got, content) {
			t.Errorf("%q became %q, %v", content, got, any)
		}
		if _, again := r.In(got); again {
			t.Errorf("something was left in %q", got)
		}
	})
}

func TestRenew(t *testing.T) {
	list := []Change{{Type: Ext, Old: oldUUID}, {Type: FAT, Old: "9E16-250E"}, {Type: VolumeGroup, Old: oldPV}}
	peer.Must(t, Renew(list, bytes.NewReader(bytes.Repeat([]byte{0xff, 1}, 100))))
	for i, want := range []string{"ff01ff01-ff01-4f01-bf01-ff01ff01ff01", "FF01-FF01", "717171-7171-7171-7171-7171-7171-717171"} {
		if list[i].New != want {
			t.Errorf("%s: %s", list[i].Type, list[i].New)
		}
	}
	if err := Renew(append(list, Change{Type: XFS, Old: strings.ToUpper(oldUUID)}), rand.Reader); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("%v", err)
	}
	if err := Renew(list, bytes.NewReader(nil)); err == nil {
		t.Error("without randomness")
	}
}

// blkid sees what was written, and fsck finds nothing wrong.
func TestWrite(t *testing.T) {
	peer.NeedTool(t, "mkfs.vfat", "mkswap", "blkid", "fsck.vfat")
	for name, c := range map[string]struct {
		make []string
		id   Change
	}{
		"FAT12": {[]string{"mkfs.vfat", "-F", "12", "-i", "9E16250E"}, Change{Type: FAT, Old: "9E16-250E", New: "12AB-34CD"}},
		"FAT16": {[]string{"mkfs.vfat", "-F", "16", "-i", "9E16250E"}, Change{Type: FAT, Old: "9E16-250E", New: "12AB-34CD"}},
		"FAT32": {[]string{"mkfs.vfat", "-F", "32", "-i", "9E16250E"}, Change{Type: FAT, Old: "9E16-250E", New: "12AB-34CD"}},
		"swap":  {[]string{"mkswap", "-q", "-U", oldUUID}, Change{Type: Swap, Old: oldUUID, New: newUUID}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "x")
			peer.Must(t, os.WriteFile(file, make([]byte, 16<<20), 0o600))
			peer.Run(t, c.make[0], append(c.make[1:], file)...)
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			peer.Must(t, err)
			defer f.Close()
			if got := ReadSwap(f); c.id.Type == Swap && got != oldUUID || c.id.Type != Swap && got != "" {
				t.Errorf("swap %q", got)
			}
			if err := Write(f, 16<<20, c.id, nil); err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(peer.Run(t, "blkid", "-p", "-o", "value", "-s", "UUID", file)); got != c.id.New {
				t.Errorf("blkid sees %q", got)
			}
			if c.id.Type == FAT {
				peer.Run(t, "fsck.vfat", "-n", file)
			}
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	peer.Must(t, os.WriteFile(file, make([]byte, 8192), 0o600))
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	peer.Must(t, err)
	defer f.Close()
	for _, id := range []Change{
		{Type: FAT, New: "12AB-34CD"}, {Type: FAT, New: "12"}, {Type: Swap, New: newUUID}, {Type: Swap, New: "x"}, {Type: PhysicalVolume, Old: oldPV, New: newPV},
	} {
		if err := Write(f, 8192, id, []Change{id}); err == nil {
			t.Errorf("%+v was written where nothing is", id)
		}
	}
	if err := Write(f, 8192, Change{Type: Ext}, nil); !errors.Is(err, ErrNotHere) {
		t.Errorf("%v", err)
	}
}
