package filesystem

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// memory is a file system of a table: what an inode holds, by number. A
// directory's text is "name number" a line, a link's its target.
type memory map[uint64]memoryInode

type memoryInode struct {
	mode uint16
	text string
}

type memoryNode struct {
	memoryInode
	number uint64
}

func (m memory) About() About { return About{Kind: "memory", Size: 1 << 20} }
func (m memory) Root() uint64 { return 1 }

func (m memory) Inode(number uint64) (Inode, error) {
	n, ok := m[number]
	if !ok {
		return nil, fmt.Errorf("%w: no inode %d", ErrCorrupt, number)
	}
	return memoryNode{n, number}, nil
}

func (n memoryNode) Stat() *Stat {
	return &Stat{Ino: n.number, Mode: n.mode | 0o644, Size: int64(len(n.text))}
}

func (n memoryNode) Names() (names []Name, err error) {
	for line := range strings.Lines(n.text) {
		var name Name
		if _, err := fmt.Sscan(line, &name.Name, &name.Inode); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

func (n memoryNode) Lookup(name string) (uint64, error) {
	names, err := n.Names()
	for _, have := range names {
		if have.Name == name {
			return have.Inode, nil
		}
	}
	return 0, errors.Join(err, fs.ErrNotExist)
}

func (n memoryNode) Link() (string, error)              { return n.text, nil }
func (n memoryNode) Content() (Content, error)          { return memoryContent{n.text}, nil }
func (n memoryNode) Xattrs() (map[string][]byte, error) { return nil, nil }

type memoryContent struct{ text string }

func (c memoryContent) ReadAt(p []byte, off int64) (int, error) {
	return strings.NewReader(c.text).ReadAt(p, off)
}
func (c memoryContent) Data(fn func(int64, int64) error) error { return fn(0, int64(len(c.text))) }

var sound = memory{
	1: {ModeDir, "etc 2\nbin 3\netc 2\nself 4\nlib 7\n"},
	2: {ModeDir, "passwd 5\n"},
	3: {ModeSymlink, "lib"},
	4: {ModeSymlink, "self"},
	5: {ModeRegular, "root:x:0:0\n"},
	6: {ModeSymlink, "../../../../etc/passwd"},
	7: {ModeDir, "accounts 6\ndisk 8\nroot 9\n"},
	8: {ModeBlock, ""},
	9: {ModeSymlink, "/etc/../etc"},
}

func TestFSIsOne(t *testing.T) {
	plain := memory{1: {ModeDir, "etc 2\n"}, 2: {ModeDir, "passwd 5\nhosts 5\n"}, 5: sound[5]}
	if err := fstest.TestFS(New(plain), "etc/passwd", "etc/hosts"); err != nil {
		t.Fatal(err)
	}
}

func TestPaths(t *testing.T) {
	f := New(sound)
	for name, want := range map[string]string{
		"etc/passwd": "root:x:0:0\n", "bin/accounts": "root:x:0:0\n", "lib/root/passwd": "root:x:0:0\n",
		"self": "too many symbolic links", "etc/passwd/x": "stands below what is no directory",
		"nothing": "file does not exist", "../etc": "invalid", "lib/disk": "not a regular file", "lib": "not a regular file",
	} {
		got, err := f.ReadFile(name)
		if string(got) != want && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	if target, err := f.ReadLink("bin/accounts"); err != nil || target != "../../../../etc/passwd" {
		t.Errorf("%q, %v", target, err)
	}
	if _, err := f.ReadLink("etc/passwd"); err == nil {
		t.Error("a file is read as a link")
	}
}

func TestWalk(t *testing.T) {
	var names []string
	err := New(sound).Walk(func(name string, e *Entry) error {
		names = append(names, name)
		if name == "lib" {
			return fs.SkipDir
		}
		return nil
	})
	if got := strings.Join(names, " "); err != nil || got != ". bin etc etc/passwd lib self" {
		t.Errorf("%s, %v", got, err)
	}
	names = nil
	lib, err := New(sound).Sub("bin")
	if err == nil {
		err = lib.Walk(func(name string, e *Entry) error { names = append(names, name); return nil })
	}
	if got := strings.Join(names, " "); err != nil || got != ". accounts disk root" {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := New(sound).Sub("etc/passwd"); err == nil {
		t.Error("a file is taken for a tree")
	}
	for what, f := range map[string]memory{
		"a directory in itself":  {1: {ModeDir, "a 1\n"}},
		"a directory of two":     {1: {ModeDir, "a 2\nb 2\n"}, 2: {ModeDir, ""}},
		"what is not there":      {1: {ModeDir, "a 2\n"}},
		"a root that is no tree": {1: {ModeRegular, ""}},
	} {
		err := New(f).Walk(func(string, *Entry) error { return nil })
		if what == "a root that is no tree" {
			_, err = New(f).Stat("x")
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestFilesAreReadAndSought(t *testing.T) {
	f, err := New(sound).OpenFile("etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if n, err := f.Seek(-6, io.SeekEnd); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := f.WriteTo(&out); err != nil || out.String() != "x:0:0\n" {
		t.Errorf("%q, %v", &out, err)
	}
	if _, err := f.Seek(-1, io.SeekStart); err == nil {
		t.Error("it goes before the start")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.Read(nil); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
}
