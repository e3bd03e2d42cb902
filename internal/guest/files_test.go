package guest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

func TestAppendLine(t *testing.T) {
	for name, content := range map[string]string{
		"unix": "a\nb\n", "no-end": "a\nb", "dos": "a\r\nb\r\n", "dos-no-end": "a\r\nb", "mac": "a\rb\r", "mac-no-end": "a\rb", "empty": "", "one-line": "a",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, node{path: "/srv/file", mode: 0o600, uid: 33, gid: 4, content: content})
			g.golden(t, name, &op.AppendLine{Path: "/srv/file", Line: "10.0.0.1 foo"})
		})
	}
	g := newGuest(t)
	g.golden(t, "new", &op.AppendLine{Path: "/etc/new.conf", Line: "x=y"})
	g.golden(t, "blank", &op.AppendLine{Path: "/etc/motd"})
	g.golden(t, "through-link", &op.AppendLine{Path: "/etc/issue", Line: "more"})
	g.refuse(t, &op.AppendLine{Path: "/nowhere/file", Line: "x"}, "no such file or directory")
	g.refuse(t, &op.AppendLine{Path: "/srv", Line: "x"}, "is a directory")
}

func TestChmodReadsOctal(t *testing.T) {
	g := newGuest(t)
	g.golden(t, "several", &op.Chmod{Paths: []string{"/etc/motd", "/srv"}, Mode: "755"})
	g.golden(t, "set-user-id", &op.Chmod{Paths: []string{"/usr/bin/apt-get"}, Mode: "04755"})
	g.golden(t, "through-link", &op.Chmod{Paths: []string{"/etc/issue"}, Mode: "0600"})
	g.refuse(t, &op.Chmod{Paths: []string{"/nowhere"}, Mode: "0600"}, "no such file or directory")
}

func TestChown(t *testing.T) {
	g := newGuest(t)
	g.golden(t, "both", &op.Chown{Paths: []string{"/srv", "/etc/motd"}, Owner: "deploy", Group: "adm"})
	g.golden(t, "numbers", &op.Chown{Paths: []string{"/opt/tool"}, Owner: "12345", Group: "54321"})
	g.golden(t, "owner-only", &op.Chown{Paths: []string{"/etc/motd"}, Owner: "0"})
	g.golden(t, "group-only", &op.Chown{Paths: []string{"/srv"}, Group: "www-data"})
	g.golden(t, "link-itself", &op.Chown{Paths: []string{"/etc/issue"}, Owner: "deploy"})
	g.refuse(t, &op.Chown{Paths: []string{"/srv"}, Owner: "martha"}, `no account "martha"`)
	g.refuse(t, &op.Chown{Paths: []string{"/nowhere"}, Owner: "root"}, "no such file or directory")
}

// rich plants a tree with everything that a file can have.
func rich(t *testing.T, g *guestTest) {
	t.Helper()
	in := func(name string) string { return filepath.Join(g.dir, name) }
	plant(t, g.dir, []node{
		{path: "/srv/tree/", mode: 0o2750, uid: 33, gid: 34}, {path: "/srv/tree/one", mode: 0o4755, uid: 1000, gid: 4, content: "one"},
		{path: "/srv/tree/sub/", mode: 0o700, uid: 1}, {path: "/srv/tree/sub/two", content: "two"}, {path: "/srv/tree/link", link: "../../etc/passwd"},
		{path: "/srv/tree/dangling", link: "/nowhere"},
	})
	peer.Must(t, os.Link(in("srv/tree/one"), in("srv/tree/sub/same")))
	peer.Must(t, unix.Mkfifo(in("srv/tree/pipe"), 0o640))
	peer.Must(t, unix.Mknod(in("srv/tree/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	sparse, err := os.Create(in("srv/tree/sparse"))
	peer.Must(t, err)
	_, err = sparse.WriteAt([]byte("end"), 8<<20)
	peer.Must(t, err)
	peer.Must(t, sparse.Close())
	for _, name := range []string{"srv/tree", "srv/tree/sub/two"} {
		peer.Must(t, unix.Setxattr(in(name), "trusted.note", []byte("kept"), 0))
	}
	peer.Must(t, unix.Lsetxattr(in("srv/tree/link"), "trusted.note", []byte("of the link"), 0))
	old := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	for _, name := range []string{"srv/tree/one", "srv/tree/sub", "srv/tree"} {
		peer.Must(t, os.Chtimes(in(name), old, old))
	}
}

// like holds a copy against what cp makes.
func like(t *testing.T, g *guestTest, got, want string) {
	t.Helper()
	a, b := snapshot(t, filepath.Join(g.dir, got)), snapshot(t, filepath.Join(g.dir, want))
	if d := diff(b, a); d != "" {
		t.Errorf("%s is not as cp makes it:\n%s", got, d)
	}
	for name := range b {
		var x, y unix.Stat_t
		peer.Must(t, unix.Lstat(filepath.Join(g.dir, got, name), &x))
		peer.Must(t, unix.Lstat(filepath.Join(g.dir, want, name), &y))
		if x.Mtim != y.Mtim || x.Nlink != y.Nlink || x.Blocks != y.Blocks {
			t.Errorf("%s: time %v, %d links, %d blocks; cp: %v, %d, %d", name, x.Mtim, x.Nlink, x.Blocks, y.Mtim, y.Nlink, y.Blocks)
		}
	}
}

func TestDuplicateCopiesAsCpDoes(t *testing.T) {
	g := newGuest(t)
	rich(t, g)
	peer.Run(t, "cp", "-a", filepath.Join(g.dir, "srv/tree"), filepath.Join(g.dir, "opt/want"))
	g.golden(t, "tree", &op.Duplicate{Source: "/srv/tree", Destination: "/opt/got"})
	like(t, g, "opt/got", "opt/want")
	// Once more, it is laid into the directory.
	g.golden(t, "into", &op.Duplicate{Source: "/srv/tree/", Destination: "/opt/got"})
	like(t, g, "opt/got/tree", "opt/want")
}

func TestDuplicateOfOneFile(t *testing.T) {
	g := newGuest(t)
	g.golden(t, "file", &op.Duplicate{Source: "/etc/motd", Destination: "/etc/motd.old"})
	g.golden(t, "over-file", &op.Duplicate{Source: "/etc/hosts", Destination: "/etc/motd"})
	g.golden(t, "link", &op.Duplicate{Source: "/etc/issue", Destination: "/srv"})
	g.refuse(t, &op.Duplicate{Source: "/nowhere", Destination: "/srv"}, "no such file or directory")
	g.refuse(t, &op.Duplicate{Source: "/etc/hosts", Destination: "/nowhere/hosts"}, "no such file or directory")
	g.refuse(t, &op.Duplicate{Source: "/etc/hosts", Destination: "/etc"}, "is the source")
}

func TestDuplicateDoesNotCopyItself(t *testing.T) {
	g := newGuest(t, node{path: "/srv/loop", link: "/opt"})
	g.refuse(t, &op.Duplicate{Source: "/opt", Destination: "/srv/loop/copy"}, "lies in it")
	g.refuse(t, &op.Move{Source: "/opt", Destination: "/srv/loop/tool"}, "lies in it")
}

func TestMove(t *testing.T) {
	g := newGuest(t)
	g.golden(t, "file", &op.Move{Source: "/etc/motd", Destination: "/etc/motd.old"})
	g.golden(t, "into", &op.Move{Source: "/opt/tool", Destination: "/srv"})
	g.golden(t, "link", &op.Move{Source: "/etc/issue", Destination: "/etc/other"})
	g.refuse(t, &op.Move{Source: "/nowhere", Destination: "/srv"}, "no such file or directory")
	g.refuse(t, &op.Move{Source: "/etc/hosts", Destination: "/nowhere/"}, "no such directory")
}

func TestMoveToAnotherFileSystem(t *testing.T) {
	g := newGuest(t)
	rich(t, g)
	peer.Run(t, "cp", "-a", filepath.Join(g.dir, "srv/tree"), filepath.Join(g.dir, "opt/want"))
	peer.Must(t, unix.Mount("tmpfs", filepath.Join(g.dir, "var/mail"), "tmpfs", 0, ""))
	defer unix.Unmount(filepath.Join(g.dir, "var/mail"), unix.MNT_DETACH)
	peer.Must(t, Apply(t.Context(), g.Guest, &op.Move{Source: "/srv/tree", Destination: "/var/mail"}))
	like(t, g, "var/mail/tree", "opt/want")
	if g.Root.Exists("/srv/tree") {
		t.Error("the source is still there")
	}
}

func TestLink(t *testing.T) {
	g := newGuest(t, node{path: "/srv/dir/", mode: 0o755}, node{path: "/srv/todir", link: "dir"})
	g.golden(t, "new", &op.Link{Target: "../opt/tool", Paths: []string{"/srv/a", "/srv/b"}})
	g.golden(t, "over-file", &op.Link{Target: "/opt", Paths: []string{"/etc/motd"}})
	g.golden(t, "into-directory", &op.Link{Target: "/opt/tool", Paths: []string{"/srv/dir"}})
	g.golden(t, "over-link-to-directory", &op.Link{Target: "/opt/tool", Paths: []string{"/srv/todir"}})
	g.refuse(t, &op.Link{Target: "/opt", Paths: []string{"/nowhere/x"}}, "no such file or directory")
}

func TestMkdir(t *testing.T) {
	g := newGuest(t)
	g.golden(t, "parents", &op.Mkdir{Paths: []string{"/srv/a/b", "/etc", "/var/run/x"}})
	g.golden(t, "mode", &op.Mkdir{Paths: []string{"/opt/tool/secret"}, Mode: "01700"})
	g.refuse(t, &op.Mkdir{Paths: []string{"/etc/motd"}}, "not a directory")
}

func TestTouch(t *testing.T) {
	g := newGuest(t, node{path: "/srv/link", link: "made"})
	g.golden(t, "new", &op.Touch{Paths: []string{"/srv/new", "/srv/link"}})
	old := time.Unix(1, 0)
	motd := filepath.Join(g.dir, "etc/motd")
	peer.Must(t, os.Chtimes(motd, old, old))
	g.golden(t, "there", &op.Touch{Paths: []string{"/etc/motd", "/srv"}})
	if stat, err := os.Stat(motd); err != nil || time.Since(stat.ModTime()) > time.Minute {
		t.Errorf("its time is %v, %v", stat.ModTime(), err)
	}
	g.refuse(t, &op.Touch{Paths: []string{"/nowhere/x"}}, "no such file or directory")
}

func TestTruncate(t *testing.T) {
	g := newGuest(t)
	g.golden(t, "files", &op.Truncate{Paths: []string{"/etc/motd", "/etc/issue"}})
	g.golden(t, "recursive", &op.Truncate{Paths: []string{"/var/log"}, Recursive: true})
	g.refuse(t, &op.Truncate{Paths: []string{"/srv"}}, "no regular file")
	g.refuse(t, &op.Truncate{Paths: []string{"/nowhere"}}, "no such file or directory")
	g.refuse(t, &op.Truncate{Paths: []string{"/nowhere"}, Recursive: true}, "no such file or directory")
}

func TestScrubLeavesNothing(t *testing.T) {
	g := newGuest(t)
	name := filepath.Join(g.dir, "root/secret")
	peer.Must(t, os.WriteFile(name, bytes.Repeat([]byte("secret"), 100000), 0o600))
	held, err := os.Open(name) // what it was, however it is called
	peer.Must(t, err)
	defer held.Close()
	g.golden(t, "file", &op.Scrub{Paths: []string{"/root/install.log"}})
	peer.Must(t, Apply(t.Context(), g.Guest, &op.Scrub{Paths: []string{"/root/secret"}}))
	content, err := os.ReadFile(descriptor(int(held.Fd())))
	peer.Must(t, err)
	if len(content) != 600000 || len(bytes.Trim(content, "\x00")) > 0 {
		t.Error("the content can still be read")
	}
	g.refuse(t, &op.Scrub{Paths: []string{"/etc/issue"}}, "no regular file")
	g.refuse(t, &op.Scrub{Paths: []string{"/srv"}}, "no regular file")
	g.refuse(t, &op.Scrub{Paths: []string{"/nowhere"}}, "no such file or directory")
}

// What a file has beside its content stays when it gets another.
func TestRewriteKeepsAttributes(t *testing.T) {
	g := newGuest(t)
	name := filepath.Join(g.dir, "etc/hosts")
	peer.Must(t, unix.Setxattr(name, "security.selinux", []byte("system_u:object_r:net_conf_t:s0\x00"), 0))
	g.golden(t, "label", &op.AppendLine{Path: "/etc/hosts", Line: "10.0.0.1 foo"})
	peer.Must(t, Apply(t.Context(), g.Guest, &op.Hostname{Name: "web"}))
	value := make([]byte, 100)
	n, err := unix.Getxattr(name, "security.selinux", value)
	if err != nil || !strings.Contains(string(value[:n]), "net_conf_t") {
		t.Errorf("the label is %q, %v", value[:n], err)
	}
}

// withArchive gives the guest a disk of files with one archive, named a.
func (g *guestTest) withArchive(t testing.TB, content []byte) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	peer.Must(t, w.WriteHeader(&tar.Header{Name: "a", Mode: 0o644, Size: int64(len(content))}))
	_, err := w.Write(content)
	peer.Must(t, err)
	peer.Must(t, w.Close())
	g.withFiles(b.Bytes())
}

func TestTarInUnpacksWhatTarPacked(t *testing.T) {
	g := newGuest(t)
	rich(t, g)
	for format, compress := range map[string]string{"posix": "", "gnu": "-z", "pax": "-j"} {
		args := []string{"-C", filepath.Join(g.dir, "srv/tree"), "-c", "--numeric-owner", "--format=" + format}
		if format != "gnu" {
			args = append(args, "--xattrs", "--xattrs-include=*")
		}
		if compress != "" {
			args = append(args, compress)
		}
		archive, err := exec.Command("tar", append(args, "one", "sub", "link", "dangling", "pipe", "null", "sparse")...).Output()
		peer.Must(t, err)
		g.withArchive(t, archive)
		peer.Must(t, os.Mkdir(filepath.Join(g.dir, "opt", format), 0o755))
		g.golden(t, format, &op.TarIn{Source: "x", Destination: "/opt/" + format, Payload: "a"})
	}
}

func TestTarInKeepsTheGuestsDirectories(t *testing.T) {
	g := newGuest(t)
	g.withArchive(t, payload(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 5},
		tar.Header{Name: "lib/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 5},
		tar.Header{Name: "lib/new", Mode: 0o640, Uid: 5, Gid: 6},
		tar.Header{Name: "/etc/motd", Mode: 0o644},
	))
	g.golden(t, "root", &op.TarIn{Source: "x", Destination: "/", Payload: "a"})
}

func TestTarInRefuses(t *testing.T) {
	var small bytes.Buffer
	w := gzip.NewWriter(&small)
	_, err := w.Write([]byte("no tar at all, but long enough to be looked at as if it were a header of 512 bytes" + strings.Repeat(".", 600)))
	peer.Must(t, err)
	peer.Must(t, w.Close())
	for message, archive := range map[string][]byte{
		"climbs with ..":              payload(t, tar.Header{Name: "../x", Mode: 0o644}),
		"invalid tar header":          small.Bytes(),
		"compressed with xz":          []byte("\xfd7zXZ\x00........................"),
		"compressed with zstd":        []byte("\x28\xb5\x2f\xfd...................."),
		"unexpected EOF":              payload(t, tar.Header{Name: "tmp/x", Mode: 0o644})[:515],
		"no such file":                payload(t, tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "nowhere"}),
		"link to \"../etc/x\" climbs": payload(t, tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "../etc/x"}),
	} {
		t.Run(message, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			g.withArchive(t, archive)
			g.refuse(t, &op.TarIn{Source: "x", Destination: "/", Payload: "a"}, message)
		})
	}
	g := newGuest(t)
	g.refuse(t, &op.TarIn{Source: "x", Destination: "/", Payload: "a"}, "no disk with files")
	g.withArchive(t, nil)
	g.refuse(t, &op.TarIn{Source: "x", Destination: "/", Payload: "b"}, "not on the disk")
	g.refuse(t, &op.TarIn{Source: "x", Destination: "/nowhere", Payload: "a"}, "make it with mkdir")
	g.refuse(t, &op.TarIn{Source: "x", Destination: "/etc/motd", Payload: "a"}, "no such directory")
}

// Neither links of the guest nor those of the archive lead out of the root.
func TestFilesStayInTheRoot(t *testing.T) {
	outside := sandbox(t)
	plant(t, outside, []node{{path: "/secret", content: "secret"}})
	before := snapshot(t, outside)
	g := newGuest(t, node{path: "/srv/out", link: outside}, node{path: "/srv/file", link: outside + "/secret"},
		node{path: "/srv/up", link: "../../../../../../../.." + outside + "/secret"})
	g.withArchive(t, payload(t,
		tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: outside},
		tar.Header{Name: "x/secret", Mode: 0o644},
	))
	for _, o := range []op.Operation{
		&op.AppendLine{Path: "/srv/file", Line: "x"}, &op.AppendLine{Path: "/srv/up", Line: "x"},
		&op.Chmod{Paths: []string{"/srv/file"}, Mode: "0777"}, &op.Chown{Paths: []string{"/srv/out/secret"}, Owner: "5"},
		&op.Duplicate{Source: "/srv/out/secret", Destination: "/srv/stolen"}, &op.Duplicate{Source: "/etc/motd", Destination: "/srv/out/"},
		&op.Move{Source: "/srv/out/secret", Destination: "/srv/stolen"}, &op.Link{Target: "x", Paths: []string{"/srv/out/secret"}},
		&op.Mkdir{Paths: []string{"/srv/out/dir"}}, &op.Touch{Paths: []string{"/srv/out/new", "/srv/up"}},
		&op.Truncate{Paths: []string{"/srv/up"}}, &op.Truncate{Paths: []string{"/srv/out"}, Recursive: true},
		&op.Scrub{Paths: []string{"/srv/out/secret"}}, &op.TarIn{Source: "x", Destination: "/srv", Payload: "a"},
	} {
		// Most fail, as there is nothing of that name inside; what counts is outside.
		_ = Apply(t.Context(), g.Guest, o)
	}
	if d := diff(before, snapshot(t, outside)); d != "" {
		t.Errorf("outside changed:\n%s", d)
	}
	if g.Root.Exists("/srv/stolen") {
		t.Error("something outside came in")
	}
}
