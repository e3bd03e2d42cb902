package pkgdb

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"herdbook/internal/peer"
)

// patch changes bytes of a copy.
func patch(p []byte, at int, value string) []byte {
	p = slices.Clone(p)
	copy(p[at:], value)
	return p
}

func TestBerkeleyDBRefuses(t *testing.T) {
	list := [][]byte{header(tagName, typeString, "a\x00"), header(tagName, typeString, "b\x00", tagSummary, typeString, strings.Repeat("s", 5000)+"\x00", tagArch, typeString, "x\x00")}
	good := bdbFile(t, t.TempDir(), 1234, 512, list)
	le := binary.LittleEndian
	bucket, overflow := 0, 0 // the page of the large package, and the first where it goes on
	for at := 512; at < len(good); at += 512 {
		if le.Uint16(good[at+20:]) > 0 && good[at+25] == bdbSorted && bytes.Contains(good[at:at+512], []byte("\x03\x00\x00\x00")) {
			bucket = at
		}
		if good[at+25] == bdbOverflow && le.Uint32(good[at+12:]) == 0 {
			overflow = at
		}
	}
	if bucket == 0 || overflow == 0 {
		t.Fatal("db_load made other pages than this test is about")
	}
	number := func(at int) string { return string(le.AppendUint32(nil, uint32(at/512))) }
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"version":        {patch(good, 16, "\x07"), "it is no hash of Berkeley DB"},
		"a tree":         {patch(good, 12, "\x62\x31\x05\x00"), "it is no hash of Berkeley DB"},
		"page size":      {patch(good, 20, "\x00\x03"), "it has pages of 768 bytes"},
		"no page size":   {patch(good, 20, "\x00\x00"), "it has pages of 0 bytes"},
		"encrypted":      {patch(good, 24, "\x01"), "it is encrypted"},
		"checksums":      {patch(good, 26, "\x01"), "checksums"},
		"cut short":      {good[:len(good)-512], "the last should be"},
		"buckets":        {patch(good, 72, "\xff\xff\xff\xff"), "buckets"},
		"spares":         {patch(good, 96, "\xff\xff\xff\xff"), "is not among the"},
		"other page":     {patch(good, bucket+8, "\x00"), "says that it is page 0"},
		"type":           {patch(good, bucket+25, "\x05"), "it has type 5, not that of a hash"},
		"items":          {patch(good, bucket+20, "\xff\xff"), "it has 65535 items"},
		"item's place":   {patch(good, bucket+bdbPageHead, "\x00\x02"), "item 0 is at bytes 512 to 512"},
		"bucket's cycle": {patch(good, bucket+16, number(bucket)), "its pages are a cycle"},
		"large's cycle":  {patch(good, overflow+16, number(overflow)), "is none of a chain"},
		"large's type":   {patch(good, overflow+25, "\x0d"), "is none of a chain"},
		"large's length": {patch(good, overflow+22, "\xff\xff"), "is none of a chain"},
		"nothing large":  {patch(patch(good, overflow+22, "\x00\x00"), overflow+16, number(overflow)), "its pages are a cycle"},
	} {
		if got, err := Read(one("var/lib/rpm/Packages", string(c.data))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %q", name, got, err, c.want)
		}
	}
}

// smallSQLite is a database of which every part has some pages of 512 bytes.
func smallSQLite(t testing.TB) []byte {
	t.Helper()
	peer.NeedTool(t, "sqlite3")
	name := filepath.Join(t.TempDir(), "db")
	peer.Run(t, "sqlite3", name, "PRAGMA page_size=512;", "CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT,blob BLOB NOT NULL);",
		"INSERT INTO Packages(blob) VALUES (x'00000001000000020000"+"03e80000000600000000000000014100');",
		"INSERT INTO Packages(blob) SELECT CAST(x'0000000100001002000003e8000000060000100000000001'||zeroblob(4096)||x'4100' AS BLOB) UNION ALL SELECT blob FROM (SELECT blob FROM Packages), json_each('[' || replace(printf('%400s', '1'), ' ', '1,') || ']');")
	data, err := os.ReadFile(name)
	peer.Must(t, err)
	return data
}

func TestSQLiteRefuses(t *testing.T) {
	good := smallSQLite(t)
	got, err := Read(one("var/lib/rpm/rpmdb.sqlite", string(good)))
	if err != nil || len(got[0].Packages) != 402 || got[0].Packages[0].Name != "A" {
		t.Fatalf("%+v, %v", got, err)
	}
	interior := 0 // the root of the table
	for at := 512; at < len(good); at += 512 {
		if good[at] == sqliteInterior {
			interior = at
		}
	}
	root := string(binary.BigEndian.AppendUint32(nil, uint32(interior/512+1)))
	if interior == 0 {
		t.Fatal("sqlite3 made other pages than this test is about")
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"page size":   {patch(good, 16, "\x02\x01"), "it has pages of 513 bytes"},
		"no size":     {patch(good, 16, "\x00\x00"), "it has pages of 0 bytes"},
		"reserved":    {patch(good, 20, "\x21"), "479 of them usable"},
		"encoding":    {patch(good, 56, "\x00\x00\x00\x02"), "encoding 2, not UTF-8"},
		"schema":      {patch(good, sqliteHead, "\x0a"), "read the schema: page 1 is none of a table: type 10"},
		"no table":    {bytes.ReplaceAll(good, []byte("Packages"), []byte("packages")), "it has no table Packages"},
		"cells":       {patch(good, interior+3, "\xff\xff"), "with 65535 cells"},
		"cell":        {patch(good, interior+12, "\x01\xff"), "has a cell at byte 511"},
		"right":       {patch(good, interior+8, "\x00\x00\x00\x00"), "page 0 is not among"},
		"cycle":       {patch(good, interior+8, root), "its pages are a cycle"},
		"depth":       {patch(good, interior+int(binary.BigEndian.Uint16(good[interior+12:])), root), "a table is 20 pages deep"},
		"first again": {patch(good, interior+8, string(good[interior+int(binary.BigEndian.Uint16(good[interior+12:])):][:4])), "its pages are a cycle"},
		"cut short":   {good[:len(good)-1024], "is not among the"},
		"leaf":        {patch(good, interior, "\x0d"), ""},
	} {
		if got, err := Read(one("var/lib/rpm/rpmdb.sqlite", string(c.data))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %q", name, got, err, c.want)
		}
	}
	for name, log := range map[string]string{"short": "x", "magic": strings.Repeat("x", 32), "no page size": "7\x7f\x06\x82\x00\x2d\xe2\x18" + strings.Repeat("\x00", 24)} {
		tree := one("var/lib/rpm/rpmdb.sqlite", string(good))
		tree["var/lib/rpm/rpmdb.sqlite-wal"] = &fstest.MapFile{Data: []byte(log)}
		if got, err := Read(tree); err == nil || !strings.Contains(err.Error(), "read its log: ") {
			t.Errorf("log %s: %v, %v", name, got, err)
		}
	}
}

func TestVarint(t *testing.T) {
	for text, want := range map[string]struct {
		value  uint64
		length int
	}{"": {}, "\x00": {0, 1}, "\x7f\xff": {127, 1}, "\x81\x00": {128, 2}, "\x80": {}, "\xff\xff\xff\xff\xff\xff\xff\xff": {}, "\xff\xff\xff\xff\xff\xff\xff\xff\xff": {1<<64 - 1, 9}, "\xff\xff\xff\xff\xff\xff\xff\xff\x00x": {1<<64 - 256, 9}} {
		if value, length := varint([]byte(text)); value != want.value || length != want.length {
			t.Errorf("%x: %d, %d", text, value, length)
		}
	}
}

// check is what holds of every package, whatever it was read of.
func check(t *testing.T) adder {
	n := 0
	return func(Package) error {
		if n++; n > maxPackages {
			t.Error("no end of packages")
			return io.EOF
		}
		return nil
	}
}

// flip changes bytes of a good file: each three of p are a place and a value.
func flip(good, p []byte) []byte {
	good = slices.Clone(good)
	for ; len(p) >= 3 && len(good) > 0; p = p[3:] {
		good[int(binary.LittleEndian.Uint16(p))%len(good)] = p[2]
	}
	return good
}

// seeds are changes of the first bytes of a file, and of every page of 512.
func seeds(f *testing.F, size int) {
	for at := range 200 {
		f.Add([]byte{byte(at), 0, 0xff}, true)
	}
	for at := 0; at < min(size, 1<<16); at += 512 {
		for i := range 30 {
			f.Add([]byte{byte(at + i), byte((at + i) >> 8), byte(i * 9)}, true)
		}
	}
	f.Add([]byte("whatever it is"), false)
}

func FuzzBerkeleyDB(f *testing.F) {
	good := bdbFile(f, f.TempDir(), 4321, 512, [][]byte{header(tagName, typeString, "a\x00"), header(tagSummary, typeString, strings.Repeat("s", 1000)+"\x00", tagName, typeString, "b\x00")})
	seeds(f, len(good))
	f.Fuzz(func(t *testing.T, p []byte, flips bool) {
		if flips {
			p = flip(good, p)
		}
		_ = bdbPackages(memory(p), check(t)) // an error or none: it ends
	})
}

func FuzzNDB(f *testing.F) {
	good := ndbFile([][]byte{header(tagName, typeString, "a\x00"), header(tagName, typeString, "b\x00")})
	seeds(f, len(good))
	f.Fuzz(func(t *testing.T, p []byte, flips bool) {
		if flips {
			p = flip(good, p)
		}
		_ = ndbPackages(memory(p), check(t)) // an error or none: it ends
	})
}

func FuzzSQLite(f *testing.F) {
	good := smallSQLite(f)
	seeds(f, len(good))
	f.Fuzz(func(t *testing.T, p []byte, flips bool) {
		if flips {
			p = flip(good, p)
		}
		_ = sqlitePackages(memory(p), nil, check(t)) // an error or none: it ends
		if w, err := openWAL(memory(p)); err == nil && w != nil {
			_ = sqlitePackages(memory(good), memory(p), check(t))
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add(header(tagName, typeString, "n\x00", tagVersion, typeString, "1\x00", tagRelease, typeString, "2\x00", tagEpoch, typeInt32, "\x00\x00\x00\x09", tagSummary, typeI18N, "one\x00"))
	f.Add([]byte("\x00\x00\x00\x01\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, p []byte) {
		got, err := readHeader(bytes.NewReader(p))
		if err == nil && len(got.Name)+len(got.Summary) > 2*len(p) {
			t.Errorf("%+v of %d bytes", got, len(p))
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add([]byte(status))
	f.Add([]byte(installed))
	f.Add([]byte(desc))
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, name := range []string{"var/lib/dpkg/status", "var/lib/dpkg/status.d/x", "lib/apk/db/installed", "var/lib/pacman/local/x/desc"} {
			found, err := Read(fstest.MapFS{name: {Data: p}})
			if err != nil {
				continue
			}
			for _, d := range found {
				for _, p := range d.Packages {
					if p.Name == "" || len(p.Name) > maxField || len(p.Version) > maxField || len(p.Summary) > maxSummary || p.Size < 0 {
						t.Errorf("%s: %+v", name, p)
					}
				}
			}
		}
	})
}
