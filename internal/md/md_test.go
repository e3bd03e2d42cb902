package md

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"herdbook/internal/ext4"
	"herdbook/internal/peer"
)

const memberSize = 6 << 20

// members are pairs of partitions that mdadm made arrays of, in a machine whose
// kernel then ran them, each with an ext4 that has one file:
//
//	mdadm --create … --level=1 --raid-devices=2 --homehost=h --name=NAME
//
// of metadata 0.90, 1.0, 1.1 and 1.2; then, all with metadata 1.2, one whose second
// member was failed before the file was written, and one with an internal bitmap.
func members(t testing.TB) [12][]byte {
	t.Helper()
	packed, err := os.ReadFile("testdata/arrays.img.zst")
	peer.Must(t, err)
	d, err := zstd.NewReader(nil)
	peer.Must(t, err)
	defer d.Close()
	image, err := d.DecodeAll(packed, nil)
	peer.Must(t, err)
	var list [12][]byte
	for i := range list {
		list[i] = image[(1+7*i)<<20:][:memberSize]
	}
	return list
}

func open(t testing.TB, p []byte) *Member {
	t.Helper()
	m, err := Open(bytes.NewReader(p), int64(len(p)))
	peer.Must(t, err)
	return m
}

// TestAgainstMdadm holds what is read of every member against mdadm's report.
func TestAgainstMdadm(t *testing.T) {
	peer.NeedTool(t, "mdadm")
	for i, p := range members(t) {
		file := filepath.Join(t.TempDir(), "member")
		peer.Must(t, os.WriteFile(file, p, 0o600))
		report := peer.Run(t, "mdadm", "--examine", file)
		m := open(t, p)
		version := m.Metadata
		if version == "0.90" {
			version += ".00"
		}
		want := []string{"Version : " + version + "\n", " UUID : " + m.UUID + "\n", fmt.Sprintf("Raid Devices : %d\n", m.Devices),
			"Raid Level : " + m.LevelName() + "\n", fmt.Sprintf("Events : %d\n", m.Events)}
		if m.Metadata == "0.90" {
			want = append(want, "Preferred Minor : "+m.Name+"\n", fmt.Sprintf("Array Size : %d ", m.Size>>10), fmt.Sprintf("this     %d ", m.Role))
		} else {
			want = append(want, "Name : h:"+m.Name+"\n", fmt.Sprintf("Array Size : %d KiB", m.Size>>10), fmt.Sprintf("Active device %d\n", m.Role))
		}
		if m.Offset > 0 {
			want = append(want, fmt.Sprintf("Data Offset : %d sectors\n", m.Offset/sector))
		}
		for _, line := range want {
			if !strings.Contains(report, line) {
				t.Errorf("member %d: mdadm does not say %q:\n%s", i, line, report)
			}
		}
	}
}

func TestArrays(t *testing.T) {
	list := members(t)
	for i, want := range []struct {
		paths, content string
		inSync         int
	}{
		{"md/101 md101", "metadata 0.90\n", 2}, {"md/n1.0", "metadata 1.0\n", 2}, {"md/n1.1", "metadata 1.1\n", 2},
		{"md/n1.2", "metadata 1.2\n", 2}, {"md/stale", "newer\n", 1}, {"md/bitmap", "bitmap\n", 2},
	} {
		pair := []*Member{open(t, list[2*i]), open(t, list[2*i+1])}
		a, err := Assemble(pair)
		if err != nil || len(a.InSync) != want.inSync || strings.Join(pair[0].Paths(), " ") != want.paths {
			t.Errorf("%s: %+v, %v, paths %v", want.paths, a, err, pair[0].Paths())
			continue
		}
		var data []byte
		for _, index := range a.InSync {
			m := pair[index]
			p := list[2*i+index][m.Offset:][:m.Size]
			if data != nil && !bytes.Equal(p, data) {
				t.Errorf("%s: its members differ", want.paths)
			}
			data = p
		}
		f, err := ext4.Open(bytes.NewReader(data), a.Size)
		if err != nil {
			t.Errorf("%s: %v", want.paths, err)
			continue
		}
		if text, err := fs.ReadFile(f, "file"); string(text) != want.content {
			t.Errorf("%s: %q, %v", want.paths, text, err)
		}
	}
}

// seal corrects the checksum of a superblock of any metadata.
func seal(p []byte) {
	le := binary.LittleEndian
	for _, at := range []int{0, 4096, (len(p)/sector - 16) &^ 7 * sector} {
		if at < 0 || at+4096 > len(p) || le.Uint32(p[at:]) != magic {
			continue
		}
		if count := le.Uint32(p[at+220:]); count <= maxDevices {
			le.PutUint32(p[at+216:], sum(p[at:][:256+2*count], 216))
		}
	}
	if at := len(p)&^(64<<10-1) - 64<<10; at >= 0 && le.Uint32(p[at:]) == magic {
		le.PutUint32(p[at+4*38:], sum(p[at:][:4096], 4*38))
	}
}

func TestArraysThatAreRefused(t *testing.T) {
	list := members(t)
	const old, new = memberSize - 64<<10, 4096
	put := func(at int, value uint32) func(p []byte) {
		return func(p []byte) { binary.LittleEndian.PutUint32(p[at:], value) }
	}
	for _, c := range []struct {
		first, count int
		damage       func(p []byte)
		want         string
	}{
		{6, 2, put(new+72, 5), "raid5"},
		{6, 2, put(new+72, 0xffffffff), "linear"},
		{0, 2, put(old+4*7, 10), "raid10"},
		{6, 2, put(new+208, 0), "not stopped cleanly"},
		{0, 2, put(old+4*33, 0), "not stopped cleanly"},
		{0, 2, put(old+4*2, 91), "reshaped"},
		{6, 2, put(new+8, featureReshape), "reshaped"},
		{6, 2, put(new+8, featureRecover), "rebuilt"},
		{6, 2, put(new+8, featureBad), "bad blocks"},
		{6, 2, put(new+8, 0x400), "not known here"},
		{6, 2, put(new+200, 14), "by one write"},
		{6, 2, put(new+160, 1), "in place 1"},
		{6, 2, put(new+80, 100), "contradict"},
		{6, 1, nil, "place 1 is not on this image"},
		{9, 1, nil, "not stopped cleanly"}, // left behind as it was
		{10, 2, put(new+8*512+256, 1), "may differ"},
		{10, 2, put(new+8*512+48, 2), "stale"},
	} {
		var pair []*Member
		for i := range c.count {
			p := bytes.Clone(list[c.first+i])
			if c.damage != nil && i == 0 {
				c.damage(p)
				seal(p)
			}
			pair = append(pair, open(t, p))
		}
		a, err := Assemble(pair)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v", c.want, a, err)
		}
	}
}

func TestDamageIsSeen(t *testing.T) {
	list := members(t)
	le := binary.LittleEndian
	for i, at := range map[int]int{0: memberSize - 64<<10, 2: memberSize - 8<<10, 4: 0, 6: 4096} {
		p := bytes.Clone(list[i])
		p[at+100]++
		if _, err := Open(bytes.NewReader(p), memberSize); !errors.Is(err, ErrCorrupt) {
			t.Errorf("member %d: %v", i, err)
		}
		p = bytes.Clone(list[i])
		le.PutUint32(p[at+92:], 1<<31)
		le.PutUint64(p[at+128:], 1<<63)
		seal(p)
		if _, err := Open(bytes.NewReader(p), memberSize); i > 0 && !errors.Is(err, ErrCorrupt) {
			t.Errorf("member %d with absurd numbers: %v", i, err)
		}
	}
	if _, err := Open(bytes.NewReader(make([]byte, 1<<20)), 1<<20); !errors.Is(err, ErrNotMember) {
		t.Errorf("zeros: %v", err)
	}
	if _, err := Open(bytes.NewReader(nil), 0); !errors.Is(err, ErrNotMember) {
		t.Errorf("nothing: %v", err)
	}
}

// spread is a member of whom only the ends are there.
type spread struct{ head, tail []byte }

func (s spread) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(s.head)) {
		copy(p, s.head[off:])
	}
	if at := off - (memberSize - int64(len(s.tail))); at >= 0 && at < int64(len(s.tail)) {
		copy(p, s.tail[at:])
	}
	if off+int64(len(p)) > memberSize {
		return int(memberSize - off), io.EOF
	}
	return len(p), nil
}

func FuzzOpen(f *testing.F) {
	for _, p := range members(f) {
		f.Add(p[:12<<10], p[memberSize-128<<10:])
	}
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		if len(head) > 1<<20 || len(tail) != 128<<10 {
			return
		}
		seal(head)
		seal(tail) // it ends where a member does
		m, err := Open(spread{head, tail}, memberSize)
		if err != nil {
			return
		}
		a, err := Assemble([]*Member{m})
		if err == nil && (a.Size <= 0 || m.Offset < 0 || m.Offset+a.Size > memberSize || len(a.InSync) != 1) {
			t.Errorf("%+v of %+v", a, m)
		}
		_, _ = Assemble([]*Member{m, m})
	})
}
