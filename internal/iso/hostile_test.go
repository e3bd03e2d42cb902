package iso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
)

const (
	rootSector = firstSector + 4 // as Write has it
	dataSector = rootSector + 1
)

// changed writes a disc of files and has change work on its root's records, with the
// directory itself and its parent as the first two.
func changed(t *testing.T, files []File, change func([]record)) *FS {
	t.Helper()
	var b bytes.Buffer
	peer.Must(t, Write(&b, "v", files))
	list, err := records(b.Bytes()[rootSector*sector : dataSector*sector])
	peer.Must(t, err)
	change(list)
	return opened(t, b.Bytes())
}

// crafted is a disc with records of one's own in its root, and one sector of data.
func crafted(t *testing.T, data []byte, all ...[]byte) *FS {
	t.Helper()
	var b bytes.Buffer
	peer.Must(t, Write(&b, "v", []File{{"x", append(data, make([]byte, sector-len(data))...)}}))
	root := b.Bytes()[rootSector*sector : dataSector*sector]
	list, err := records(root)
	peer.Must(t, err)
	at := len(list[0]) + len(list[1])
	clear(root[at:])
	if n := copy(root[at:], slices.Concat(all...)); n != len(slices.Concat(all...)) {
		t.Fatal("the records do not fit")
	}
	return opened(t, b.Bytes())
}

func opened(t *testing.T, p []byte) *FS {
	t.Helper()
	disc, err := Open(bytes.NewReader(p), int64(len(p)))
	peer.Must(t, err)
	return disc
}

// Parts of a file that was left out do not become parts of another one.
func TestPartsFollowTheirFile(t *testing.T) {
	files := []File{{"first", []byte("1")}, {"..", []byte("2")}, {"part", []byte("3")}, {"last", []byte("4")}}
	want := map[string]string{".": "directory", "first": "1", "last": "4"}
	unnamed := changed(t, files, func(list []record) { list[3][25] |= flagMore })
	if diff := cmp.Diff(want, tree(t, unnamed)); diff != "" {
		t.Errorf("a file without a usable name: %s", diff)
	}
	files[1].Name = "fork"
	associated := changed(t, files, func(list []record) {
		list[3][25] |= flagMore | flagAssociated
		list[4][25] |= flagAssociated
	})
	if diff := cmp.Diff(want, tree(t, associated)); diff != "" {
		t.Errorf("an associated file: %s", diff)
	}
	front := changed(t, files, func(list []record) { list[2][25] |= flagAssociated })
	if diff := cmp.Diff(map[string]string{".": "directory", "fork": "2", "part": "3", "last": "4"}, tree(t, front)); diff != "" {
		t.Errorf("an associated file in front: %s", diff)
	}
}

func TestInterleavedFilesAreRefused(t *testing.T) {
	for _, at := range []int{26, 27} {
		for part := range 2 {
			disc := changed(t, []File{{"a", []byte("1")}, {"b", []byte("2")}}, func(list []record) {
				list[2][25] |= flagMore
				list[2+part][at] = 1
			})
			if _, err := fs.ReadFile(disc, "a"); err == nil || !strings.Contains(err.Error(), "interleaved") {
				t.Errorf("byte %d of part %d: %v", at, part, err)
			}
		}
	}
}

// goesOn is the field that says where the fields of a record go on.
func goesOn(offset, length int) []byte {
	p := make([]byte, 28)
	copy(p, "CE\x1c\x01")
	both32(p[4:], dataSector)
	both32(p[12:], uint32(offset))
	both32(p[20:], uint32(length))
	return p
}

func TestARecordGoesOnInAFewPlaces(t *testing.T) {
	for areas, want := range map[int]error{1: nil, maxAreas: nil, maxAreas + 1: ErrCorrupt} {
		const length = 6 + 28
		var data []byte
		for n := range areas {
			data = append(data, 'N', 'M', 6, 1, 0, byte('a'+n))
			data = append(data, goesOn((n+1)*length, length)...)
		}
		clear(data[len(data)-28:]) // padding
		disc := crafted(t, data, newRecord("X.;1", dataSector, 0, 0, append(goesOn(0, length), posix(0o100644)...)))
		list, err := fs.ReadDir(disc, ".")
		if !errors.Is(err, want) {
			t.Errorf("%d areas: %v", areas, err)
		}
		if name := "abcdefghi"[:min(areas, 9)]; want == nil && (len(list) != 1 || list[0].Name() != name) {
			t.Errorf("%d areas: %v", areas, list)
		}
	}
	// One that goes on in itself.
	disc := crafted(t, goesOn(0, 28), newRecord("X.;1", dataSector, 0, 0, goesOn(0, 28)))
	if _, err := fs.ReadDir(disc, "."); !errors.Is(err, ErrCorrupt) {
		t.Errorf("without an end: %v", err)
	}
}

// The parts of links count as those of the path do.
func TestAPathHasALimit(t *testing.T) {
	link := func(name, to string) []byte {
		const dots = 70
		target := append([]byte("SL\x00\x01\x00"), bytes.Repeat([]byte{0x02, 0}, dots)...)
		target = append(append(target, 0, byte(len(to))), to...)
		target[2] = byte(len(target))
		use := append([]byte{'N', 'M', byte(5 + len(name)), 1, 0}, name...)
		return newRecord(strings.ToUpper(name)+".;1", dataSector, 0, 0, append(append(use, posix(0o120777)...), target...))
	}
	file := newRecord("END.;1", dataSector, 3, 0, posix(0o100644))
	disc := crafted(t, []byte("end"), link("a", "b"), link("b", "c"), link("c", "d"), link("d", "end"), file)
	for name, want := range map[string]error{"end": nil, "d": nil, "b": nil, "a": ErrCorrupt} {
		if text, err := fs.ReadFile(disc, name); !errors.Is(err, want) || want == nil && string(text) != "end" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if _, err := disc.Stat(strings.Repeat("d/", maxParts) + "d"); err == nil {
		t.Error("a path without an end is found")
	}
}

func TestADirectoryHasALimit(t *testing.T) {
	for _, entries := range []int{maxEntries, maxEntries + 1} {
		var root bytes.Buffer
		one := newRecord("A", dataSector, 0, 0, nil)
		for range entries {
			if root.Len()%sector+len(one) > sector {
				root.Write(make([]byte, -root.Len()&(sector-1)))
			}
			root.Write(one)
		}
		var b bytes.Buffer
		peer.Must(t, Write(&b, "v", nil))
		at := b.Len() / sector
		disc := append(b.Bytes(), padded(root.Bytes())...)
		rootRecord := disc[firstSector*sector+156:]
		both32(rootRecord[2:], uint32(at))
		binary.LittleEndian.PutUint32(rootRecord[10:], uint32(len(disc)-at*sector))
		_, err := Open(bytes.NewReader(disc), int64(len(disc)))
		if want := entries > maxEntries; errors.Is(err, ErrCorrupt) != want || want != strings.Contains(fmt.Sprint(err), "entries") {
			t.Errorf("%d entries: %v", entries, err)
		}
	}
}
