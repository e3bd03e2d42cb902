package pkgdb

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	gocmp "github.com/google/go-cmp/cmp"

	"herdbook/internal/peer"
)

// one is a tree of one file.
func one(name, text string) fstest.MapFS { return fstest.MapFS{name: {Data: []byte(text)}} }

const status = `Package: zlib1g
Status: install ok installed
Priority: optional
Installed-Size: 168
Architecture: amd64
Multi-Arch: same
Version: 1:1.2.13.dfsg-1
Conffiles:
 /etc/a 0123
 /etc/Package: b
Description: compression library - runtime
 zlib is a library.
 .
 Version: of the text

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: never
Status: purge ok not-installed
Architecture: all

Package: half
Status: install reinstreq half-installed
Architecture: all
Version: 2-1
Installed-Size: none`

const distroless = "Package: base-files\nVersion: 12\nArchitecture: amd64\nInstalled-Size: 2\nDescription: base\n"

const installed = `C:Q1abc=
P:musl
V:1.2.5-r0
A:x86_64
S:383152
I:622592
T:the musl c library (libc) implementation
o:musl
D:so:` + "\x00" + `
F:lib
R:ld-musl-x86_64.so.1
Z:Q1x=

P:alpine-keys
V:2.4-r1
A:x86_64
I:159744
T:Public keys
`

const desc = "%NAME%\npacman\n\n%VERSION%\n6.1.0-3\n\n%BASE%\npacman\n\n%DESC%\nA library-based package manager\n\n%ARCH%\nx86_64\n\n%LICENSE%\nGPL\n\n%SIZE%\n4862061\n\n%DEPENDS%\nbash\n%NAME\n"

func TestTextDatabases(t *testing.T) {
	status := Database{"dpkg", "status", "var/lib/dpkg/status", []Package{
		{"half", "2-1", "all", 0, ""}, {"zlib1g", "1:1.2.13.dfsg-1", "amd64", 168 << 10, "compression library - runtime"},
	}}
	apk := []Package{{"alpine-keys", "2.4-r1", "x86_64", 159744, "Public keys"}, {"musl", "1.2.5-r0", "x86_64", 622592, "the musl c library (libc) implementation"}}
	for name, c := range map[string]struct {
		tree fstest.MapFS
		want []Database
	}{
		"nothing":    {fstest.MapFS{}, nil},
		"dpkg":       {one("var/lib/dpkg/status", statusText()), []Database{status}},
		"CRLF":       {one("var/lib/dpkg/status", strings.ReplaceAll(statusText(), "\n", "\r\n")), []Database{status}},
		"no dpkg":    {fstest.MapFS{"var/lib/dpkg/status.d/base": {Data: []byte(distroless)}, "var/lib/dpkg/status.d/base.md5sums": {Data: []byte("0123  etc/x\n")}}, []Database{{"dpkg", "status.d", "var/lib/dpkg/status.d", []Package{{"base-files", "12", "amd64", 2048, "base"}}}}},
		"apk":        {one("lib/apk/db/installed", installed), []Database{{"apk", "installed", "lib/apk/db/installed", apk}}},
		"apk 3":      {one("usr/lib/apk/db/installed", installed+"\n\n"), []Database{{"apk", "installed", "usr/lib/apk/db/installed", apk}}},
		"pacman":     {fstest.MapFS{"var/lib/pacman/local/ALPM_DB_VERSION": {Data: []byte("9\n")}, "var/lib/pacman/local/pacman-6.1.0-3/desc": {Data: []byte(desc)}, "var/lib/pacman/local/pacman-6.1.0-3/files": {}}, []Database{{"pacman", "local", "var/lib/pacman/local", []Package{{"pacman", "6.1.0-3", "x86_64", 4862061, "A library-based package manager"}}}}},
		"empty":      {fstest.MapFS{"var/lib/dpkg/status": {}, "var/lib/rpm/Packages": {}, "var/lib/rpm/rpmdb.sqlite": {}, "var/lib/rpm/Packages.db": {}, "lib/apk/db/installed": {Data: []byte("\n\n")}}, nil},
		"two":        {fstest.MapFS{"var/lib/dpkg/status": {Data: []byte(statusText())}, "lib/apk/db/installed": {Data: []byte(installed)}}, []Database{{"apk", "installed", "lib/apk/db/installed", apk}, status}},
		"long":       {one("var/lib/dpkg/status", "Depends: "+strings.Repeat("x", 3*maxLine)+"Package: y\n"+statusText()), []Database{status}},
		"a sentence": {one("lib/apk/db/installed", "P:a\nV:1\nT:"+strings.Repeat("t", 1000)), []Database{{"apk", "installed", "lib/apk/db/installed", []Package{{"a", "1", "", 0, strings.Repeat("t", maxSummary)}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Read(c.tree)
			if diff := gocmp.Diff(c.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got)\n%s", err, diff)
			}
		})
	}
}

func statusText() string { return status }

func TestReadRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		tree fs.FS
		want string
	}{
		"long name":       {one("lib/apk/db/installed", "P:"+strings.Repeat("n", 256)+"\n"), `read package database lib/apk/db/installed: package "nnnn`},
		"no name":         {one("lib/apk/db/installed", "V:1\n"), "a package has no name"},
		"no desc":         {fstest.MapFS{"var/lib/pacman/local/a/files": {}}, "read package database var/lib/pacman/local: a part of it is missing"},
		"too many":        {one("lib/apk/db/installed", strings.Repeat("P:a\n\n", maxPackages+1)), "more than 65536 packages"},
		"a directory":     {fstest.MapFS{"var/lib/rpm/Packages/x": {}}, "it is no regular file"},
		"status a dir":    {fstest.MapFS{"var/lib/dpkg/status/x": {}}, "read package database var/lib/dpkg/status: "},
		"status.d a file": {one("var/lib/dpkg/status.d", "x"), "read package database var/lib/dpkg/status.d: "},
		"bdb":             {one("var/lib/rpm/Packages", strings.Repeat("x", 4096)), "it is no hash of Berkeley DB"},
		"short bdb":       {one("var/lib/rpm/Packages", "x"), "behind its end"},
		"ndb":             {one("var/lib/rpm/Packages.db", strings.Repeat("x", 4096)), "it is no ndb database of version 0"},
		"sqlite":          {one("var/lib/rpm/rpmdb.sqlite", strings.Repeat("x", 4096)), "it is no SQLite database"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Read(c.tree)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %v, want %q", got, err, c.want)
			}
		})
	}
}

// What dpkg-query says of this machine is what is read of its database.
func TestDpkgAgrees(t *testing.T) {
	peer.NeedTool(t, "dpkg-query")
	out := peer.Run(t, "dpkg-query", "-W", "-f", `${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${Installed-Size}\t${binary:Synopsis}\n`)
	var want []Package
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if f[0] == "not-installed" || f[0] == "config-files" {
			continue
		}
		kib, _ := strconv.ParseInt(f[4], 10, 64) // a package may not say
		want = append(want, Package{f[1], f[2], f[3], kib << 10, strings.TrimSpace(f[5])})
	}
	slices.SortFunc(want, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Architecture, b.Architecture))
	})
	got, err := Read(only{os.DirFS("/"), "var/lib/dpkg"})
	peer.Must(t, err)
	if len(got) != 1 || len(want) < 50 {
		t.Fatalf("%d databases, %d packages wanted", len(got), len(want))
	}
	if diff := gocmp.Diff(want, got[0].Packages); diff != "" {
		t.Errorf("(-dpkg +got)\n%s", diff)
	}
}

// What an interrupted dpkg had noted counts, for dpkg-query as for ours.
func TestUpdatesOfDpkg(t *testing.T) {
	peer.NeedTool(t, "dpkg-query")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"status": status + "\n\n", "available": "", "info/format": "1\n", "updates/tmp.i": "Package: not\n",
		"updates/0000": "Package: zlib1g\nStatus: install ok unpacked\nArchitecture: amd64\nMulti-Arch: same\nVersion: 1:1.3\nInstalled-Size: 170\nDescription: newer\n",
		"updates/0001": "Package: half\nStatus: deinstall ok not-installed\nArchitecture: all\n",
		"updates/0002": "Package: new\nStatus: install ok installed\nArchitecture: all\nVersion: 3\nDescription: new\n",
	} {
		p := filepath.Join(dir, "var/lib/dpkg", name)
		peer.Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		peer.Must(t, os.WriteFile(p, []byte(text), 0o644))
	}
	found, err := Read(os.DirFS(dir))
	peer.Must(t, err)
	var got strings.Builder
	for _, p := range found[0].Packages {
		fmt.Fprintln(&got, p.Name, p.Version, p.Architecture)
	}
	var want []string
	// Without what it warns of: fields that no package of ours needs.
	out, err := exec.Command("dpkg-query", "--admindir="+dir+"/var/lib/dpkg", "-W", "-f", `${db:Status-Status} ${Package} ${Version} ${Architecture}\n`).Output()
	peer.Must(t, err)
	for line := range strings.Lines(string(out)) {
		if state, rest, _ := strings.Cut(line, " "); state != "not-installed" && state != "config-files" {
			want = append(want, rest)
		}
	}
	slices.Sort(want)
	if diff := gocmp.Diff(strings.Join(want, ""), got.String()); diff != "" || len(want) != 2 {
		t.Errorf("(-dpkg +got)\n%s", diff)
	}
}

// only is the part of a tree that a test is about.
type only struct {
	fs.FS
	prefix string
}

// Open implements fs.FS.
func (o only) Open(name string) (fs.File, error) {
	if !strings.HasPrefix(name, o.prefix) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return o.FS.Open(name)
}

// specs are packages that rpmbuild makes: one with an epoch, several of one name,
// one with files enough for a header that needs overflow pages.
var specs = []string{
	"Name: tiny\nVersion: 1.2\nRelease: 3\nEpoch: 4\nSummary: A tiny package\nSummary(de): Ein kleines Paket\n",
	"Name: tiny\nVersion: 1.10\nRelease: 1\nEpoch: 0\nSummary: A tiny package\n",
	"Name: zebra\nVersion: 7~rc1\nRelease: 0.1.fc40\nSummary: Stripes, and nothing else\n",
	"Name: alpha\nVersion: 20240101git^1\nRelease: 1\nSummary: With a file\nPrefix: /opt\n",
	"Name: large\nVersion: 1\nRelease: 1\nSummary: With many files\nPrefix: /usr\n",
}

// rpms builds the packages.
func rpms(t testing.TB) []string {
	t.Helper()
	peer.NeedTool(t, "rpm", "rpmbuild")
	dir := t.TempDir()
	for i, spec := range specs {
		install, files := "", ""
		if strings.Contains(spec, "Prefix: /opt") {
			install, files = "mkdir -p %{buildroot}/opt\nhead -c 12345 /dev/zero >%{buildroot}/opt/file\n", "/opt/file\n"
		} else if strings.Contains(spec, "Prefix: /usr") {
			install, files = "mkdir -p %{buildroot}/usr/large\ncd %{buildroot}/usr/large\nfor i in $(seq 600); do echo $i >a-file-with-a-name-$i; done\n", "/usr/large\n"
		}
		name := filepath.Join(dir, fmt.Sprintf("%d.spec", i))
		spec += "License: MIT\nBuildArch: noarch\n%description\nText.\n%install\n" + install + "%files\n" + files
		peer.Must(t, os.WriteFile(name, []byte(spec), 0o644))
		peer.Run(t, "rpmbuild", "-bb", "--quiet", "--define", "_topdir "+dir, "--define", "_rpmdir "+dir+"/out", name)
	}
	list, err := filepath.Glob(dir + "/out/noarch/*.rpm")
	peer.Must(t, err)
	if len(list) != len(specs) {
		t.Fatalf("%d packages were built: %v", len(list), list)
	}
	return list
}

// rpm runs rpm on a database and returns what it prints on its standard output.
func rpm(t testing.TB, backend, dir string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("rpm", slices.Concat([]string{"--define", "_db_backend " + backend, "--dbpath", dir}, args)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("rpm %q: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

// rpmSays is what rpm reads in a database.
func rpmSays(t testing.TB, backend, dir string) []Package {
	t.Helper()
	var list []Package
	for line := range strings.Lines(rpm(t, backend, dir, "-qa", "--qf", `%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{ARCH}\t%{LONGSIZE}\t%{SUMMARY}\n`)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		size, err := strconv.ParseInt(f[3], 10, 64)
		peer.Must(t, err)
		list = append(list, Package{f[0], f[1], f[2], size, f[4]})
	}
	slices.SortFunc(list, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Architecture, b.Architecture))
	})
	return list
}

// sqliteDB makes rpm's own database with the packages.
func sqliteDB(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	rpm(t, "sqlite", dir, "--initdb")
	rpm(t, "sqlite", dir, slices.Concat([]string{"-i", "--justdb", "--nodeps", "--force", "--ignorearch", "--noscripts"}, rpms(t))...)
	return dir
}

// headers are the headers that a database of rpm's has.
func headers(t testing.TB, dir string) [][]byte {
	t.Helper()
	peer.NeedTool(t, "sqlite3")
	var list [][]byte
	for line := range strings.Lines(peer.Run(t, "sqlite3", filepath.Join(dir, "rpmdb.sqlite"), "SELECT hex(blob) FROM Packages ORDER BY hnum")) {
		p, err := hex.DecodeString(strings.TrimSpace(line))
		peer.Must(t, err)
		list = append(list, p)
	}
	return list
}

// laid is a tree in which the files of a directory are rpm's.
func laid(t testing.TB, dir string) fstest.MapFS {
	t.Helper()
	tree := fstest.MapFS{}
	entries, err := os.ReadDir(dir)
	peer.Must(t, err)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		peer.Must(t, err)
		tree["usr/lib/sysimage/rpm/"+e.Name()] = &fstest.MapFile{Data: data}
	}
	return tree
}

// wantRPM holds a tree against what rpm says.
func wantRPM(t *testing.T, tree fs.FS, format string, want []Package) {
	t.Helper()
	got, err := Read(tree)
	if err != nil || len(got) != 1 || got[0].Manager != "rpm" || got[0].Format != format {
		t.Fatalf("%+v, %v", got, err)
	}
	if diff := gocmp.Diff(want, got[0].Packages); diff != "" {
		t.Errorf("(-rpm +got)\n%s", diff)
	}
}

// What rpm says of a database is what is read of it, in all three formats. The
// packages are built once for all.
func TestRPMAgrees(t *testing.T) {
	dir := sqliteDB(t)
	for name, agrees := range map[string]func(*testing.T, string){"sqlite": sqliteAgrees, "variants of sqlite": sqliteVariants, "bdb": bdbAgrees, "ndb": ndbAgrees} {
		t.Run(name, func(t *testing.T) {
			own := t.TempDir()
			peer.Must(t, os.CopyFS(own, os.DirFS(dir)))
			agrees(t, own)
		})
	}
}

func sqliteAgrees(t *testing.T, dir string) {
	want := rpmSays(t, "sqlite", dir)
	if len(want) != len(specs) || want[0].Size != 12345 {
		t.Fatalf("rpm has %+v", want)
	}
	wantRPM(t, laid(t, dir), "sqlite", want)
	name := want[0].Name
	rpm(t, "sqlite", dir, "-e", "--justdb", name)
	wantRPM(t, laid(t, dir), "sqlite", rpmSays(t, "sqlite", dir))
}

// Pages of every size, tables of several levels, and a file that the log is ahead of.
func sqliteVariants(t *testing.T, dir string) {
	peer.NeedTool(t, "sqlite3")
	name := filepath.Join(dir, "rpmdb.sqlite")
	small := fmt.Sprintf("INSERT INTO Packages(blob) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d) SELECT blob FROM n, Packages WHERE hnum=1;", 700)
	for _, size := range []int{512, 1024, 4096, 65536} {
		peer.Run(t, "sqlite3", name, "PRAGMA journal_mode=DELETE;", fmt.Sprintf("PRAGMA page_size=%d;", size), "VACUUM;")
		wantRPM(t, laid(t, dir), "sqlite", rpmSays(t, "sqlite", dir))
	}
	peer.Run(t, "sqlite3", name, "PRAGMA page_size=1024;", "VACUUM;", small)
	many := rpmSays(t, "sqlite", dir)
	wantRPM(t, laid(t, dir), "sqlite", many)

	// The log is kept at the end of this session, as after a crash.
	peer.Run(t, "sqlite3", name, ".dbconfig no_ckpt_on_close on", "PRAGMA journal_mode=WAL;", "PRAGMA wal_autocheckpoint=0;",
		"DELETE FROM Packages WHERE hnum>300;", "INSERT INTO Packages(blob) SELECT blob FROM Packages WHERE hnum<10;")
	tree := laid(t, dir)
	log := tree["usr/lib/sysimage/rpm/rpmdb.sqlite-wal"]
	if log == nil || len(log.Data) == 0 {
		t.Fatal("sqlite3 left no log")
	}
	for what, c := range map[string]struct {
		cut  int
		want int
	}{"whole": {0, 309}, "torn in the last frame": {5, 300}} {
		cut := fstest.MapFS{}
		for n, f := range tree {
			cut[n] = f
		}
		cut["usr/lib/sysimage/rpm/rpmdb.sqlite-wal"] = &fstest.MapFile{Data: log.Data[:len(log.Data)-c.cut]}
		got, err := Read(cut)
		peer.Must(t, err)
		if len(got[0].Packages) != c.want {
			t.Errorf("%s: %d packages, want %d", what, len(got[0].Packages), c.want)
		}
	}
	log.Data[walHead+walFrameHead]++ // no frame holds
	wantRPM(t, tree, "sqlite", many)
	log.Data[walHead+walFrameHead]--
	wantRPM(t, tree, "sqlite", rpmSays(t, "sqlite", dir)) // which writes the log back: last
}

// bdbFile has db_load make a hash with headers, as rpm before 4.16 does.
func bdbFile(t testing.TB, dir string, order, pageSize int, list [][]byte) []byte {
	t.Helper()
	peer.NeedTool(t, "db_load")
	endian := map[int]binary.AppendByteOrder{1234: binary.LittleEndian, 4321: binary.BigEndian}[order]
	var dump strings.Builder
	fmt.Fprintf(&dump, "VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=%d\ndb_lorder=%d\nHEADER=END\n", pageSize, order)
	put := func(key uint32, value []byte) {
		fmt.Fprintf(&dump, " %x\n %x\n", endian.AppendUint32(nil, key), value)
	}
	put(0, endian.AppendUint32(nil, uint32(len(list))))
	for i, p := range list {
		put(uint32(i+1), p)
	}
	dump.WriteString("DATA=END\n")
	input, name := filepath.Join(dir, "dump"), filepath.Join(dir, "Packages")
	peer.Must(t, os.WriteFile(input, []byte(dump.String()), 0o644))
	peer.Must(t, os.RemoveAll(name))
	peer.Run(t, "db_load", "-f", input, name)
	peer.Must(t, os.Remove(input))
	data, err := os.ReadFile(name)
	peer.Must(t, err)
	return data
}

func bdbAgrees(t *testing.T, dir string) {
	list := headers(t, dir)
	many := slices.Clone(list)
	for range 300 {
		many = append(many, list[1:3]...)
	}
	for _, order := range []int{1234, 4321} {
		for _, pageSize := range []int{512, 4096, 65536} {
			for _, list := range [][][]byte{list, many} {
				t.Run(fmt.Sprintf("%d order %d page %d", len(list), order, pageSize), func(t *testing.T) {
					dir := t.TempDir()
					bdbFile(t, dir, order, pageSize, list)
					want := rpmSays(t, "bdb_ro", dir)
					if len(want) != len(list) {
						t.Fatalf("rpm finds %d packages of %d", len(want), len(list))
					}
					wantRPM(t, laid(t, dir), "bdb", want)
				})
			}
		}
	}
}

// ndbFile makes an ndb database: slots first, and a blob for each, with an empty
// slot between.
func ndbFile(list [][]byte) []byte {
	le := binary.LittleEndian
	pages := (len(list)*2+2)*ndbSlot/ndbPage + 1
	head := le.AppendUint32(le.AppendUint32(le.AppendUint32([]byte(ndbMagic), 0), 7), uint32(pages))
	p := append(head, make([]byte, ndbHead-len(head))...)
	var blobs []byte
	slot := func(number, offset, blocks uint32) {
		p = le.AppendUint32(le.AppendUint32(le.AppendUint32(append(p, ndbSlotMagic...), number), offset), blocks)
	}
	for i, header := range list {
		blob := le.AppendUint32(le.AppendUint32(le.AppendUint32([]byte(ndbBlobMagic), uint32(i+1)), 0x65000000), uint32(len(header)))
		blob = append(blob, header...)
		for (len(blob)+ndbBlobTail)%ndbBlock != 0 {
			blob = append(blob, 0)
		}
		blob = append(le.AppendUint32(le.AppendUint32(blob, adler32.Checksum(blob)), uint32(len(header))), "BlbE"...)
		slot(uint32(i+1), uint32((pages*ndbPage+len(blobs))/ndbBlock), uint32(len(blob)/ndbBlock))
		slot(0, 0, 0)
		blobs = append(blobs, blob...)
	}
	for len(p) < pages*ndbPage {
		slot(0, 0, 0)
	}
	return append(p, blobs...)
}

// The rpm of Debian cannot read ndb: the headers are rpm's, the file is ours.
func ndbAgrees(t *testing.T, dir string) {
	list, want := headers(t, dir), rpmSays(t, "sqlite", dir)
	wantRPM(t, one("var/lib/rpm/Packages.db", string(ndbFile(list))), "ndb", want)
	many := slices.Clone(list) // for a second page of slots
	for range 300 {
		many = append(many, list[0])
	}
	got, err := Read(one("var/lib/rpm/Packages.db", string(ndbFile(many))))
	if err != nil || len(got[0].Packages) != len(many) {
		t.Errorf("%d databases, %v", len(got), err)
	}
	le := binary.LittleEndian
	for name, c := range map[string]struct {
		at    int
		value uint32
		want  string
	}{
		"version":         {4, 1, "no ndb database of version 0"},
		"pages":           {12, 1 << 31, "pages of slots are more than"},
		"slot":            {ndbHead, 1, "has a slot with the magic"},
		"number":          {ndbHead + 4, 77, "there is no blob 77"},
		"among the slots": {ndbHead + 8, 2, "lies among the slots"},
		"behind its end":  {ndbHead + 8, 1 << 31, "behind its end"},
		"blocks":          {ndbHead + 12, 1, "in 1 blocks"},
		"length":          {ndbPage + 12, 1, "has 1 bytes"},
		"header":          {ndbPage + ndbBlobHead, 0xff, "tags in"},
	} {
		p := ndbFile(list)
		le.PutUint32(p[c.at:], c.value)
		if got, err := Read(one("var/lib/rpm/Packages.db", string(p))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %q", name, got, err, c.want)
		}
	}
}

// header is one of rpm's, of tags with their types and values, in this order.
func header(tags ...any) []byte {
	be := binary.BigEndian
	var index, store []byte
	for i := 0; i < len(tags); i += 3 {
		index = be.AppendUint32(be.AppendUint32(index, uint32(tags[i].(int))), uint32(tags[i+1].(int)))
		index = be.AppendUint32(be.AppendUint32(index, uint32(len(store))), 1)
		store = append(store, tags[i+2].(string)...)
	}
	return slices.Concat(be.AppendUint32(be.AppendUint32(nil, uint32(len(index)/indexEntry)), uint32(len(store))), index, store)
}

func TestHeader(t *testing.T) {
	for name, c := range map[string]struct {
		header []byte
		want   Package
		err    string
	}{
		"all":          {header(tagSize, typeInt32, "\x00\x00\x01\x00", tagName, typeString, "n\x00", tagVersion, typeString, "1\x00", tagRelease, typeString, "2\x00", tagEpoch, typeInt32, "\x00\x00\x00\x09", tagSummary, typeI18N, "one\ntwo\x00eins\x00", tagArch, typeString, "noarch\x00"), Package{"n", "9:1-2", "noarch", 256, "one"}, ""},
		"4 GiB":        {header(tagName, typeString, "n\x00", tagLongSize, typeInt64, "\x00\x00\x00\x01\x00\x00\x00\x00"), Package{Name: "n", Size: 1 << 32}, ""},
		"all the bits": {header(tagName, typeString, "n\x00", tagLongSize, typeInt64, strings.Repeat("\xff", 8)), Package{Name: "n", Size: 1<<63 - 1}, ""},
		"plain text":   {header(tagName, typeString, "n\x00", tagSummary, typeString, "text\x00"), Package{Name: "n", Summary: "text"}, ""},
		"twice":        {header(tagName, typeString, "n\x00", tagName, typeString, "other\x00"), Package{Name: "n"}, ""},
		"type":         {header(tagName, typeInt32, "\x00\x00\x00\x00"), Package{}, "tag 1000 has type 4"},
		"no end":       {header(tagName, typeString, "name"), Package{}, "read tag 1000 of a header: unexpected EOF"},
		"short":        {header(tagEpoch, typeInt32, "\x00"), Package{}, "read tag 1003 of a header: unexpected EOF"},
		"behind":       {header(tagName, typeString, ""), Package{}, "at byte 0 of 0"},
		"tags":         {[]byte("\x00\x01\x00\x01\x00\x00\x00\x00"), Package{}, "65537 tags"},
		"bytes":        {[]byte("\x00\x00\x00\x01\x7f\x00\x00\x00"), Package{}, "bytes"},
		"empty":        {nil, Package{}, "read a header: unexpected EOF"},
		"index":        {[]byte("\x00\x00\x00\x02\x00\x00\x00\x01\x00"), Package{}, "read a header: unexpected EOF"},
	} {
		got, err := readHeader(bytes.NewReader(c.header))
		if c.err == "" && (err != nil || got != c.want) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %+v, %v, want %+v, %q", name, got, err, c.want, c.err)
		}
	}
}

// What an error of reading says comes through.
func TestReadErrorsAreTold(t *testing.T) {
	for _, name := range []string{"var/lib/rpm/Packages", "var/lib/rpm/Packages.db", "var/lib/rpm/rpmdb.sqlite"} {
		if _, err := Read(failing{fstest.MapFS{name: {Data: make([]byte, 4096)}}}); !errors.Is(err, errFailing) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var errFailing = errors.New("input/output error")

// failing is a tree whose files cannot be read.
type failing struct{ fs.FS }

// Open implements fs.FS.
func (f failing) Open(name string) (fs.File, error) {
	opened, err := f.FS.Open(name)
	return failingFile{opened}, err
}

type failingFile struct{ fs.File }

// ReadAt implements io.ReaderAt.
func (failingFile) ReadAt([]byte, int64) (int, error) { return 0, errFailing }

// memory is a database in memory.
func memory(p []byte) *file {
	return &file{bytes.NewReader(p), io.NopCloser(nil), int64(len(p))}
}
