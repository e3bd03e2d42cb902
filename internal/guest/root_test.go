package guest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/peer"
)

// primitives are all ways in which a root is touched by a name.
var primitives = map[string]func(*Root, string) error{
	"Open": func(r *Root, name string) error {
		f, err := r.Open(name)
		if err != nil {
			return err
		}
		return f.Close()
	},
	"ReadFile": func(r *Root, name string) error {
		p, err := r.ReadFile(name)
		if bytes.Contains(p, []byte("secret")) {
			panic("read a file that is not the guest's: " + name)
		}
		return err
	},
	"Lstat":       func(r *Root, name string) error { _, err := r.Lstat(name); return err },
	"Stat":        func(r *Root, name string) error { _, err := r.Stat(name); return err },
	"ReadLink":    func(r *Root, name string) error { _, err := r.ReadLink(name); return err },
	"ReadDir":     func(r *Root, name string) error { _, err := r.ReadDir(name); return err },
	"WriteKept":   func(r *Root, name string) error { return r.WriteFile(name, []byte("new"), owned(0o777), true) },
	"WriteFrom":   func(r *Root, name string) error { return r.WriteFrom(name, strings.NewReader("new"), owned(0o777)) },
	"MkdirAll":    func(r *Root, name string) error { return r.MkdirAll(name, 0o777) },
	"Symlink":     func(r *Root, name string) error { return r.Symlink("/etc/passwd", name) },
	"Chown":       func(r *Root, name string) error { return r.Chown(name, 4711, 4711) },
	"Chmod":       func(r *Root, name string) error { return r.Chmod(name, 0o777) },
	"Truncate":    func(r *Root, name string) error { return r.Truncate(name) },
	"Rename":      func(r *Root, name string) error { return r.Rename(name, "/renamed") },
	"RenameTo":    func(r *Root, name string) error { return r.Rename("/own", name) },
	"RemoveAll":   func(r *Root, name string) error { return r.RemoveAll(name) },
	"Walk":        func(r *Root, name string) error { return r.Walk(name, func(string, unix.Stat_t) error { return nil }) },
	"Empty":       func(r *Root, name string) error { return r.Empty(name) },
	"Unlink":      func(r *Root, name string) error { return r.Unlink(name + "{,/*}") },
	"RemoveFiles": func(r *Root, name string) error { return r.RemoveFiles([]string{name}) },
	"EditLines": func(r *Root, name string) error {
		return r.EditLines(name, func(string) (string, bool) { return "new", true })
	},
	"Glob": func(r *Root, name string) error { _, err := r.Glob(name + "/{*,.*}"); return err },
}

// hostile are the links of an image that wants to get at outside, and names that
// lead through them.
func hostile(outside string) (links []node, names []string) {
	up := strings.Repeat("../", 30) + outside
	links = []node{
		{path: "/own", content: "own"}, {path: "/etc", link: "/"}, {path: "/absolute", link: outside}, {path: "/climbing", link: up},
		{path: "/dir/climbing", link: up}, {path: "/dir/absolute", link: outside}, {path: "/file", link: outside + "/file"}, {path: "/dir/file", link: up + "/file"},
		{path: "/self", link: "self"}, {path: "/a", link: "b"}, {path: "/b", link: "a"}, {path: "/parent", link: ".."}, {path: "/here", link: "."},
		{path: "/chain1", link: "/chain2"}, {path: "/chain2", link: "parent/chain3"}, {path: "/chain3", link: outside},
		{path: "/through", link: "/etc/etc/etc/absolute"}, {path: "/magic", link: "/proc/self/root" + outside}, {path: "/cwd", link: "/proc/self/cwd"},
	}
	for _, l := range links[1:] {
		for _, below := range []string{"", "/file", "/dir/file", "/new", "/.."} {
			names = append(names, l.path+below)
		}
	}
	return links, append(names, outside, up, outside+"/file", up+"/file", "/..", "..", "../../..", "", "/", ".", "/../../.."+outside+"/dir")
}

// No name leads a primitive out of the root, whatever links the guest has.
func TestHostileLinksLeadNowhere(t *testing.T) {
	for how, try := range primitives {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			outside, dir := sandbox(t), sandbox(t)
			plant(t, outside, []node{{path: "/file", mode: 0o600, content: "secret"}, {path: "/dir/file", content: "secret"}, {path: "/empty/", mode: 0o700}})
			links, names := hostile(outside)
			plant(t, dir, links)
			before, fresh := snapshot(t, outside), snapshot(t, dir)
			for _, name := range names {
				r, err := OpenRoot(dir)
				peer.Must(t, err)
				_ = try(r, name) // an error or none: it must only stay inside
				peer.Must(t, r.Close())
				if got := diff(before, snapshot(t, outside)); got != "" {
					t.Fatalf("%q got out:\n%s", name, got)
				}
				if diff(fresh, snapshot(t, dir)) != "" {
					peer.Must(t, os.RemoveAll(dir))
					peer.Must(t, os.Mkdir(dir, 0o755))
					plant(t, dir, links)
					fresh = snapshot(t, dir)
				}
			}
		})
	}
}

// A pipe must not make anybody wait, and a device must not even be opened.
func TestPipesAndDevicesAreNotOpened(t *testing.T) {
	g := newGuest(t)
	peer.Must(t, syscall.Mkfifo(filepath.Join(g.dir, "srv/pipe"), 0o666))
	// A console would wait for its user, /dev/zero has no end, 240 has no driver.
	for name, dev := range map[string]int{"srv/console": 5<<8 | 1, "srv/zero": 1<<8 | 5, "srv/none": 240<<8 | 7} {
		peer.Must(t, syscall.Mknod(filepath.Join(g.dir, name), syscall.S_IFCHR|0o666, dev))
	}
	peer.Must(t, syscall.Mknod(filepath.Join(g.dir, "srv/block"), syscall.S_IFBLK|0o666, 240<<8|7))
	peer.Must(t, os.Symlink("pipe", filepath.Join(g.dir, "srv/link")))
	before := snapshot(t, g.dir)
	for _, name := range []string{"/srv/pipe", "/srv/console", "/srv/zero", "/srv/none", "/srv/block", "/srv/link"} {
		for _, how := range []string{"Open", "ReadFile", "Chmod", "Truncate"} {
			if err := primitives[how](g.Root, name); !errors.Is(err, errSpecial) {
				t.Errorf("%s %s: %v, want %v", how, name, err, errSpecial)
			}
		}
	}
	if got := diff(before, snapshot(t, g.dir)); got != "" {
		t.Error(got)
	}
	// To be looked at, replaced, owned and removed they need not be opened.
	for _, how := range []string{"Lstat", "Stat", "Chown", "WriteKept", "Walk", "Glob", "RemoveAll"} {
		if err := primitives[how](g.Root, "/srv/pipe"); err != nil && how != "Walk" {
			t.Errorf("%s: %v", how, err)
		}
	}
}

func TestDatabasesThatArePipesAreRefused(t *testing.T) {
	g := newGuest(t)
	for _, name := range []string{"etc/passwd", "etc/group", "etc/hosts"} {
		peer.Must(t, os.Remove(filepath.Join(g.dir, name)))
		peer.Must(t, syscall.Mkfifo(filepath.Join(g.dir, name), 0o666))
	}
	if _, err := g.account("root"); !errors.Is(err, errSpecial) {
		t.Errorf("account: %v", err)
	}
	if _, err := g.group("root"); !errors.Is(err, errSpecial) {
		t.Errorf("group: %v", err)
	}
}

func TestReadFileIsBounded(t *testing.T) {
	g := newGuest(t)
	name := filepath.Join(g.dir, "srv/large")
	for size, ok := range map[int64]bool{0: true, maxFile: true, maxFile + 1: false, 1 << 40: false} {
		peer.Must(t, os.WriteFile(name, nil, 0o600))
		peer.Must(t, os.Truncate(name, size))
		if p, err := g.Root.ReadFile("/srv/large"); (err == nil) != ok || ok && int64(len(p)) != size {
			t.Errorf("%d bytes: read %d, %v", size, len(p), err)
		}
	}
	if _, err := g.Root.ReadFile("/srv"); !errors.Is(err, unix.EISDIR) {
		t.Errorf("a directory: %v", err)
	}
	if _, err := g.Root.ReadFile("/srv/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}

// target resolves as the kernel does.
func TestTargetIsWhereTheKernelWouldWrite(t *testing.T) {
	g := newGuest(t, node{path: "/srv/a", link: "/lib/x/../y"}, node{path: "/srv/up", link: "../../../../etc/motd"}, node{path: "/usr/lib/x/", mode: 0o755},
		node{path: "/srv/self", link: "self"}, node{path: "/srv/1", link: "2"}, node{path: "/srv/2", link: "./3/."}, node{path: "/srv/3", link: "/none/at/all"})
	for name, want := range map[string]string{
		"/etc/motd": "/etc/motd", "/etc/issue": "/usr/lib/issue", "/bin/sh": "/usr/bin/sh", "/srv/a": "/usr/lib/y", "/srv/up": "/etc/motd",
		"/srv/self": "/srv/self", "/srv/1": "/none/at/all", "/": "/", "/no/such": "/no/such", "/etc/alternatives/editor": "/usr/bin/nano",
		"/var/run/x": "/run/x", "/../../etc/motd": "/etc/motd",
	} {
		if got := g.Root.target(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestAttributesAreKeptOnDemand(t *testing.T) {
	g := newGuest(t)
	peer.Must(t, g.Root.WriteFile("/etc/motd", []byte("x"), Attributes{0o600, 7, 8}, true))
	peer.Must(t, g.Root.WriteFile("/etc/other", []byte("x"), Attributes{0o600, 7, 8}, true))
	got := snapshot(t, g.dir)
	if want := `100640 0:4 1 "x"`; got["/etc/motd"] != want {
		t.Errorf("kept: %s, want %s", got["/etc/motd"], want)
	}
	if want := `100600 7:8 1 "x"`; got["/etc/other"] != want {
		t.Errorf("new: %s, want %s", got["/etc/other"], want)
	}
}

func TestRemoveAllOfADeepTree(t *testing.T) {
	g := newGuest(t)
	deep := filepath.Join(g.dir, "srv", strings.Repeat("d/", 900))
	peer.Must(t, os.MkdirAll(deep, 0o755))
	peer.Must(t, os.Chmod(filepath.Join(g.dir, "srv/d"), 0))
	peer.Must(t, g.Root.RemoveAll("/srv/d"))
	if g.Root.Exists("/srv/d") {
		t.Error("it is still there")
	}
	peer.Must(t, g.Root.RemoveAll("/srv/d"))
	peer.Must(t, g.Root.RemoveAll("/etc/passwd/below"))
}

func TestWalkTellsParentsFirst(t *testing.T) {
	g := newGuest(t, node{path: "/srv/b/c", content: "x"}, node{path: "/srv/a", link: "/etc"})
	var got []string
	peer.Must(t, g.Root.Walk("/srv", func(name string, _ unix.Stat_t) error { got = append(got, name); return nil }))
	if want := []string{"/srv/a", "/srv/b", "/srv/b/c"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	stop := errors.New("enough")
	if err := g.Root.Walk("/srv", func(string, unix.Stat_t) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error %v, want %v", err, stop)
	}
	peer.Must(t, g.Root.Walk("/none", func(string, unix.Stat_t) error { return stop }))
}

func TestOpenRootNeedsADirectory(t *testing.T) {
	name := filepath.Join(sandbox(t), "file")
	peer.Must(t, os.WriteFile(name, nil, 0o600))
	for path, want := range map[string]error{name: unix.ENOTDIR, name + "-none": unix.ENOENT} {
		if _, err := OpenRoot(path); !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}
