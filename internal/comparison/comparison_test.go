package comparison

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"herdbook/internal/inspection"
	"herdbook/internal/peer"
	"herdbook/internal/pkgdb"
	"herdbook/internal/survey"
)

const release = "ID=debian\nVERSION_ID=\"12\"\n"

// dpkg is a status file of packages: NAME VERSION ARCHITECTURE.
func dpkg(packages ...string) string {
	var b strings.Builder
	for _, p := range packages {
		f := strings.Fields(p)
		fmt.Fprintf(&b, "Package: %s\nStatus: install ok installed\nVersion: %s\nArchitecture: %s\n\n", f[0], f[1], f[2])
	}
	return b.String()
}

// tree is a tree on the host: a link is "-> TARGET", a hard link "=> NAME", a
// directory has / at its end.
type tree map[string]string

// lay writes a tree and lets change do what that has no words for.
func (t tree) lay(tt testing.TB, change func(dir string)) string {
	tt.Helper()
	dir := tt.TempDir()
	for _, hard := range []bool{false, true} {
		for name, content := range t {
			p := filepath.Join(dir, name)
			first, isHard := strings.CutPrefix(content, "=> ")
			target, isLink := strings.CutPrefix(content, "-> ")
			peer.Must(tt, os.MkdirAll(filepath.Dir(p), 0o755))
			switch {
			case hard != isHard:
			case isHard:
				peer.Must(tt, os.Link(filepath.Join(dir, first), p))
			case isLink:
				peer.Must(tt, os.Symlink(target, p))
			case strings.HasSuffix(name, "/"):
				peer.Must(tt, os.MkdirAll(p, 0o755))
			default:
				peer.Must(tt, os.WriteFile(p, []byte(content), 0o644))
			}
		}
	}
	if change != nil {
		change(dir)
	}
	return dir
}

// system makes an image of a tree and finds the system on it.
func system(t testing.TB, dir, size string) *inspection.System {
	t.Helper()
	peer.NeedTool(t, "mke2fs")
	image := filepath.Join(t.TempDir(), "image")
	peer.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d", dir, image, size)
	f, err := os.Open(image)
	peer.Must(t, err)
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	peer.Must(t, err)
	s, err := inspection.Disk(f, info.Size())
	peer.Must(t, err)
	return s
}

func before() tree {
	return tree{
		"etc/os-release": release, "etc/hosts": "127.0.0.1 localhost\n", "etc/motd": "hello", "etc/issue": "same length", "etc/removed": "x", "etc/link": "-> a", "etc/was-file": "x",
		"etc/dir/a": "a", "etc/dir.d/a": "a", "etc/dir-b": "b", "etc/same\nlines": "1", "etc/mode": "m", "etc/owner": "o", "etc/attribute": "a", "etc/taken": "t", "srv/gone/deep/file": "1", "empty/": "",
		"etc/passwd":          "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\neve:x:1002:1002::/home/eve:/bin/sh\n",
		"etc/shadow":          "root:*:1::::::\nada:$y$one:1::::::\neve:$y$one:1::::::\n",
		"etc/group":           "root:x:0:\nsudo:x:27:ada\nbob:x:1001:\nold:x:99:\n",
		"var/lib/dpkg/status": dpkg("bash 5.1-2 amd64", "libc6 2.36-9 amd64", "libc6 2.36-9 i386", "vim 9.0 amd64"),
		"etc/systemd/system/multi-user.target.wants/cups.service": "-> /lib/systemd/system/cups.service", "etc/systemd/system/multi-user.target.wants/cron.service": "-> /lib/systemd/system/cron.service",
		"usr/one": "hard link", "usr/two": "=> usr/one", "usr/keep": strings.Repeat("k", 3000),
	}
}

func after() tree {
	t := before()
	for _, gone := range []string{"etc/removed", "srv/gone/deep/file", "etc/was-file", "etc/systemd/system/multi-user.target.wants/cups.service", "etc/systemd/system/multi-user.target.wants/cron.service"} {
		delete(t, gone)
	}
	for name, content := range (tree{
		"etc/motd": "hello, all", "etc/issue": "same Length", "etc/link": "-> b", "etc/was-file/x": "1", "etc/dir/b": "b", "etc/same\nlines": "2", "etc/dir/new\x1bline": "", "srv/new": strings.Repeat("n", 2<<20),
		"etc/passwd":                      "root:x:0:0:root:/root:/bin/zsh\nada:x:1000:1000::/home/ada:/bin/sh\neve:x:1002:1002::/home/eve:/bin/sh\nzoe:x:1003:1003:Zoe:/home/zoe:/bin/bash\n",
		"etc/shadow":                      "root:*:1::::::\nada:$y$two:1::::::\neve:!:1::::::\n",
		"etc/group":                       "root:x:0:\nsudo:x:27:ada,zoe\nzoe:x:1003:\nold:x:98:\n",
		"var/lib/dpkg/status":             dpkg("bash 5.1-2 amd64", "libc6 2.36-10 amd64", "libc6 2.36-9 i386", "nginx 1.22.1-9 amd64"),
		"etc/systemd/system/cron.service": "-> /dev/null", "etc/systemd/system/multi-user.target.wants/nginx.service": "-> /lib/systemd/system/nginx.service",
	}) {
		t[name] = content
	}
	return t
}

func compared(t testing.TB) *Comparison {
	t.Helper()
	peer.NeedRoot(t, "to make files of others")
	a := system(t, before().lay(t, func(dir string) {
		peer.Must(t, unix.Mknod(filepath.Join(dir, "device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
		peer.Must(t, unix.Setxattr(filepath.Join(dir, "etc/taken"), "user.x", []byte("1"), 0))
	}), "16M")
	b := system(t, after().lay(t, func(dir string) {
		peer.Must(t, unix.Mknod(filepath.Join(dir, "device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))))
		peer.Must(t, os.Chmod(filepath.Join(dir, "etc/mode"), 0o600|os.ModeSetuid))
		peer.Must(t, os.Chmod(filepath.Join(dir, "empty"), 0o700))
		peer.Must(t, os.Lchown(filepath.Join(dir, "etc/owner"), 1000, 100))
		peer.Must(t, os.Lchown(filepath.Join(dir, "etc/link"), 1000, 100))
		peer.Must(t, unix.Setxattr(filepath.Join(dir, "etc/attribute"), "user.x", []byte("1"), 0))
	}), "16M")
	c, err := Compare(context.Background(), a, b)
	peer.Must(t, err)
	return c
}

func TestCompare(t *testing.T) {
	c := compared(t)
	var text bytes.Buffer
	peer.Must(t, c.WriteText(&text))
	peer.Golden(t, "comparison.txt", text.Bytes())
	p, err := json.MarshalIndent(c, "", "  ")
	peer.Must(t, err)
	peer.Golden(t, "comparison.json", append(p, '\n'))
	for line := range strings.Lines(text.String()) {
		if len([]rune(line)) > 101 || strings.Contains(line, "\x1b") {
			t.Errorf("%q", line)
		}
	}
	if strings.Contains(text.String()+string(p), "$y$") {
		t.Error("it tells a password's hash")
	}
}

func TestASystemIsTheSameAsItself(t *testing.T) {
	s := system(t, before().lay(t, nil), "16M")
	c, err := Compare(context.Background(), s, s)
	peer.Must(t, err)
	var text bytes.Buffer
	peer.Must(t, c.WriteText(&text))
	p, err := json.Marshal(c)
	peer.Must(t, err)
	if want := `{"packages":[],"units":[],"users":[],"groups":[],"sizes":[],"files":[]}`; !c.Same() || text.String() != "No differences.\n" || string(p) != want {
		t.Errorf("%s%s", text.String(), p)
	}
}

// What diff finds of two real trees is found, and no more.
func TestFilesAgreeWithDiff(t *testing.T) {
	peer.NeedTool(t, "diff", "cpio")
	a, b := tree{"etc/os-release": release, "etc/hosts": ""}.lay(t, nil), tree{"etc/os-release": release, "etc/hosts": ""}.lay(t, nil)
	copied := func(dir, from string) {
		peer.Run(t, "sh", "-c", fmt.Sprintf("cd /usr/share && find %s -type f -size -200k | head -1500 | cpio --quiet -pdm %s/usr", from, dir))
	}
	copied(a, "doc/[a-h]*")
	copied(b, "doc/[b-i]*")
	n := 0
	peer.Must(t, filepath.WalkDir(filepath.Join(b, "usr"), func(p string, e os.DirEntry, err error) error {
		if n++; err == nil && e.Type().IsRegular() && n%50 == 0 {
			data, err := os.ReadFile(p)
			peer.Must(t, err)
			if len(data) > 0 {
				data[len(data)-1]++
			}
			peer.Must(t, os.Remove(p))
			return os.WriteFile(p, data, 0o644)
		}
		return err
	}))
	found, err := files(context.Background(), system(t, a, "256M").Tree(), system(t, b, "256M").Tree())
	peer.Must(t, err)
	var got, want []string
	for _, d := range found {
		if slices.ContainsFunc(d.Details, func(d Detail) bool { return d.What == "content" }) || d.Change != Changed {
			got = append(got, string(d.Change)+" "+d.Name)
		}
	}
	for change, c := range map[Change]string{Added: `find "$B" -printf '/%P\n'`, Removed: `find "$A" -printf '/%P\n'`} {
		other := map[Change]string{Added: a, Removed: b}[change]
		for line := range strings.Lines(peer.Run(t, "sh", "-c", "A="+a+" B="+b+"; "+c)) {
			name := strings.TrimSpace(line)
			if _, err := os.Lstat(filepath.Join(other, name)); err != nil {
				want = append(want, string(change)+" "+name)
			}
		}
	}
	for line := range strings.Lines(peer.Run(t, "sh", "-c", "diff -rq --no-dereference "+a+" "+b+" || [ $? = 1 ]")) {
		if f := strings.Fields(line); f[0] == "Files" {
			want = append(want, "changed "+strings.TrimPrefix(f[1], a))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" || len(got) < 100 || !strings.Contains(strings.Join(got, "\n"), "changed ") {
		t.Errorf("%d differences (-diff +got)\n%s", len(got), diff)
	}
}

// Holes and data in any order hold the same bytes, and cost what the data costs.
func TestSparseContents(t *testing.T) {
	const size = 1 << 40
	write := func(name string, at ...int64) func(string) {
		return func(dir string) {
			f, err := os.Create(filepath.Join(dir, name))
			peer.Must(t, err)
			peer.Must(t, f.Truncate(size))
			for _, off := range at {
				content := bytes.Repeat([]byte{byte(off >> 20), 1}, 100<<10)
				if off < 0 {
					off, content = -off, make([]byte, 200<<10) // written zeros
				}
				_, err := f.WriteAt(content, off)
				peer.Must(t, err)
			}
			peer.Must(t, f.Close())
		}
	}
	for name, c := range map[string]struct {
		a, b []int64
		same bool
	}{
		"holes":            {nil, nil, true},
		"same":             {[]int64{1 << 20, 1 << 39}, []int64{1 << 20, 1 << 39}, true},
		"zeros in a hole":  {[]int64{1 << 20, -(1 << 30)}, []int64{1 << 20}, true},
		"zeros in another": {[]int64{1 << 20}, []int64{-(1 << 22), 1 << 20}, true},
		"more in the last": {[]int64{1 << 20}, []int64{1 << 20, 1 << 39}, false},
		"less in the last": {[]int64{1 << 20, 1 << 39}, []int64{1 << 20}, false},
		"elsewhere":        {[]int64{1 << 20}, []int64{1 << 21}, false},
		"in the middle":    {[]int64{1 << 20, 3 << 20, 5 << 20}, []int64{1 << 20, 4 << 20, 5 << 20}, false},
	} {
		base := tree{"etc/os-release": release, "etc/hosts": ""}
		a, b := system(t, base.lay(t, write("sparse", c.a...)), "32M"), system(t, base.lay(t, write("sparse", c.b...)), "32M")
		found, err := files(context.Background(), a.Tree(), b.Tree())
		want := []Difference{}
		if !c.same {
			want = append(want, Difference{Changed, "/sparse", "file", []Detail{{"content", "1099511627776", ""}}})
		}
		if diff := cmp.Diff(want, found); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s", name, err, diff)
		}
	}
}

func TestCompareEndsWithItsContext(t *testing.T) {
	s := system(t, before().lay(t, nil), "16M")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if c, err := Compare(ctx, s, s); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestPackages(t *testing.T) {
	list := func(manager string, packages ...string) []pkgdb.Database {
		d := pkgdb.Database{Manager: manager}
		for _, p := range packages {
			f := strings.Fields(p)
			d.Packages = append(d.Packages, pkgdb.Package{Name: f[0], Version: f[1], Architecture: f[2]})
		}
		return []pkgdb.Database{d}
	}
	for name, c := range map[string]struct {
		before, after []pkgdb.Database
		want          []Package
	}{
		"nothing":      {nil, nil, []Package{}},
		"all new":      {nil, list("apk", "a 1 x"), []Package{{Added, "apk", "a", "x", "", "1"}}},
		"all gone":     {list("apk", "a 1 x"), nil, []Package{{Removed, "apk", "a", "x", "1", ""}}},
		"upgrade":      {list("rpm", "a 1 x", "b 1 x"), list("rpm", "a 2 x", "b 1 x"), []Package{{Changed, "rpm", "a", "x", "1", "2"}}},
		"two at once":  {list("rpm", "k 1 x", "k 2 x"), list("rpm", "k 2 x", "k 3 x"), []Package{{Changed, "rpm", "k", "x", "1", "3"}}},
		"one more":     {list("rpm", "k 1 x"), list("rpm", "k 1 x", "k 2 x"), []Package{{Added, "rpm", "k", "x", "", "2"}}},
		"fewer":        {list("rpm", "k 1 x", "k 2 x", "k 3 x"), list("rpm", "k 4 x"), []Package{{Removed, "rpm", "k", "x", "1", ""}, {Removed, "rpm", "k", "x", "2", ""}, {Removed, "rpm", "k", "x", "3", ""}, {Added, "rpm", "k", "x", "", "4"}}},
		"between":      {list("rpm", "k 1 x", "k 1 y", "k 2 x"), list("rpm", "k 1 x", "k 1 y"), []Package{{Removed, "rpm", "k", "x", "2", ""}}},
		"architecture": {list("dpkg", "a 1 x"), list("dpkg", "a 1 y"), []Package{{Removed, "dpkg", "a", "x", "1", ""}, {Added, "dpkg", "a", "y", "", "1"}}},
		"manager":      {list("dpkg", "a 1 x"), list("rpm", "a 1 x"), []Package{{Removed, "dpkg", "a", "x", "1", ""}, {Added, "rpm", "a", "x", "", "1"}}},
	} {
		if diff := cmp.Diff(c.want, Packages(c.before, c.after)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

// Of two accounts with one name the first counts, as for the guest.
func TestTheFirstOfANameCounts(t *testing.T) {
	one, two := survey.Group{Name: "a", GID: "1"}, survey.Group{Name: "a", GID: "2"}
	if got := groups([]survey.Group{one, two}, []survey.Group{one}); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if got := groups([]survey.Group{one}, []survey.Group{two, one}); len(got) != 1 || got[0].Details[0] != (Detail{"gid", "1", "2"}) {
		t.Errorf("%+v", got)
	}
}

func TestErrorsOfWritingAreTold(t *testing.T) {
	c := &Comparison{Sizes: []Size{{Dir: "/", From: 1}}, Files: []Difference{{Added, "/x", "file", nil}}}
	for n := range 4 {
		if err := c.WriteText(&full{n}); !errors.Is(err, errFull) {
			t.Errorf("after %d writes: %v", n, err)
		}
	}
}

var errFull = errors.New("no space left")

// full takes a few writes.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}
