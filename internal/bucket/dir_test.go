package bucket_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/bucket"
	"herdbook/internal/bucket/buckettest"
	"herdbook/internal/peer"
)

// inMemory has a test's directories be there, where syncing takes no time; all else
// is the same.
func inMemory(t *testing.T) {
	t.Helper()
	if stat, err := os.Stat("/dev/shm"); err == nil && stat.IsDir() {
		t.Setenv("TMPDIR", "/dev/shm")
	}
}

func TestDir(t *testing.T) {
	inMemory(t)
	buckettest.Run(t, func(t *testing.T) bucket.Bucket { return bucket.Dir(filepath.Join(t.TempDir(), "not/there/yet")) })
}

// The environment of a child process: what it does, and in which directory.
const (
	deedVariable = "HERDBOOK_TEST_DEED"
	dirVariable  = "HERDBOOK_TEST_DIR"
)

// deeds are what another process does in a directory.
var deeds = map[string]func(dir string) error{
	"put": func(dir string) error { return putAll(bucket.Dir(dir), os.Stdout) },
	"count": func(dir string) error {
		for range 25 {
			if err := count(bucket.Dir(dir)); err != nil {
				return err
			}
		}
		return nil
	},
	// The others say "ready" in the middle of it, and end with their input.
	"begin to put": func(dir string) error {
		_, err := bucket.Dir(dir).Put(context.Background(), "images/web", waiting{strings.NewReader("whole")}, bucket.Condition{})
		return err
	},
	"hold the lock": func(dir string) error {
		f, err := os.Open(filepath.Join(dir, ".tmp/lock"))
		if err != nil {
			return err
		}
		return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_EX), ready(), f.Close())
	},
}

// TestDeed is no test, but the main function of the other process.
func TestDeed(t *testing.T) {
	deed := deeds[os.Getenv(deedVariable)]
	if deed == nil {
		return // not a child
	}
	peer.Must(t, deed(os.Getenv(dirVariable)))
}

func ready() error {
	fmt.Println("ready")
	_, err := io.ReadAll(os.Stdin)
	return err
}

// waiting is content that is ready when it is read.
type waiting struct{ *strings.Reader }

func (c waiting) ReadAt(p []byte, off int64) (int, error) {
	if err := ready(); err != nil {
		return 0, err
	}
	return c.Reader.ReadAt(p, off)
}

func child(t *testing.T, dir, deed string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	peer.Must(t, err)
	c := exec.Command(self, "-test.run=^TestDeed$")
	c.Env = append(os.Environ(), deedVariable+"="+deed, dirVariable+"="+dir)
	c.Stderr = os.Stderr
	return c
}

// startChild starts one and waits until it is ready. What it returns ends it.
func startChild(t *testing.T, dir, deed string) (c *exec.Cmd, stdin io.Closer) {
	t.Helper()
	c = child(t, dir, deed)
	stdin, err := c.StdinPipe()
	peer.Must(t, err)
	stdout, err := c.StdoutPipe()
	peer.Must(t, err)
	peer.Must(t, c.Start())
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the other process says %q: %v, %v", line, err, c.Wait())
	}
	return c, stdin
}

func kill(t *testing.T, c *exec.Cmd) {
	t.Helper()
	peer.Must(t, c.Process.Kill())
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) {
		t.Fatal(err)
	}
}

// putAll does all that changes a bucket, and says what is done.
func putAll(b bucket.Bucket, say io.Writer) error {
	for _, put := range []struct {
		name, text string
		condition  bucket.Condition
	}{
		{"index", "new", bucket.Condition{}},
		{"images/deep/web", strings.Repeat("w", 2<<20), bucket.Condition{Absent: true}},
	} {
		if _, err := b.Put(context.Background(), put.name, strings.NewReader(put.text), put.condition); err != nil {
			return err
		}
		fmt.Fprintln(say, "put", put.name)
	}
	if err := b.Remove(context.Background(), "gone/by/then"); err != nil {
		return err
	}
	fmt.Fprintln(say, "removed")
	return nil
}

// count adds a line to the index by compare and swap.
func count(b bucket.Bucket) error {
	for {
		r, o, err := b.Open(context.Background(), "index")
		if err != nil {
			return err
		}
		text, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
		_, err = b.Put(context.Background(), "index", strings.NewReader(string(text)+"+"), bucket.Condition{Version: o.Version})
		if !errors.Is(err, bucket.ErrChanged) {
			return err
		}
	}
}

func TestProcessesThatCompareAndSwapLoseNothing(t *testing.T) {
	inMemory(t)
	dir := t.TempDir()
	buckettest.Put(t, bucket.Dir(dir), "index", "")
	var children []*exec.Cmd
	for range 4 {
		c := child(t, dir, "count")
		peer.Must(t, c.Start())
		children = append(children, c)
	}
	for _, c := range children {
		peer.Must(t, c.Wait())
	}
	if text, _ := buckettest.Get(t, bucket.Dir(dir), "index"); text != strings.Repeat("+", 100) {
		t.Errorf("%d of 100 are left", len(text))
	}
}

func TestLeftoversOfDeadProcessesOnlyAreRemoved(t *testing.T) {
	dir := t.TempDir()
	b := bucket.Dir(dir)
	living, stdin := startChild(t, dir, "begin to put")
	dead, _ := startChild(t, dir, "begin to put")
	kill(t, dead)
	if left := inTmp(t, dir); len(left) != 2 {
		t.Fatalf("begun: %q", left)
	}
	buckettest.Put(t, b, "index", "i")
	if left := inTmp(t, dir); len(left) != 1 {
		t.Errorf("of two, one of them dead: %q", left)
	}
	peer.Must(t, errors.Join(stdin.Close(), living.Wait()))
	if text, _ := buckettest.Get(t, b, "images/web"); text != "whole" {
		t.Errorf("the living one put %q", text)
	}
	if left := inTmp(t, dir); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// inTmp is what is not whole yet.
func inTmp(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, ".tmp/*"))
	peer.Must(t, err)
	return slices.DeleteFunc(found, func(path string) bool { return filepath.Base(path) == "lock" })
}

func TestTheLockDoesNotOutliveItsProcess(t *testing.T) {
	dir := t.TempDir()
	b := bucket.Dir(dir)
	buckettest.Put(t, b, "index", "old")
	holder, _ := startChild(t, dir, "hold the lock")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := b.Put(ctx, "index", strings.NewReader("new"), bucket.Condition{})
	for what, err := range map[string]error{"put": err, "remove": b.Remove(ctx, "index")} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s below a lock: %v", what, err)
		}
	}
	if text, _ := buckettest.Get(t, b, "index"); text != "old" || len(inTmp(t, dir)) > 0 {
		t.Errorf("%q is there; left: %q", text, inTmp(t, dir))
	}
	put := make(chan error)
	go func() {
		_, err := b.Put(context.Background(), "index", strings.NewReader("new"), bucket.Condition{})
		put <- err
	}()
	kill(t, holder)
	peer.Must(t, <-put)
}

func TestFilesOfADirCanBeServed(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	dir := filepath.Join(t.TempDir(), "repo")
	buckettest.Put(t, bucket.Dir(dir), "streams/v1/index.json", "{}")
	for name, mode := range map[string]fs.FileMode{
		".": 0o755, "streams": 0o755, "streams/v1": 0o755, "streams/v1/index.json": 0o644,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		peer.Must(t, err)
		if info.Mode().Perm() != mode {
			t.Errorf("%s: %v", name, info.Mode())
		}
	}
}

// TestLinksLeadNowhere has links lie in a bucket, which its own methods never make.
func TestLinksLeadNowhere(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	b := bucket.Dir(dir)
	peer.Must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644))
	buckettest.Put(t, b, "images/web", "w")
	for name, target := range map[string]string{
		"file": filepath.Join(outside, "secret"), "dir": outside, "up": "..", "images/same": "web", "loop": "loop", "dangling": "nowhere",
	} {
		peer.Must(t, os.Symlink(target, filepath.Join(dir, name)))
	}
	peer.Must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644))
	peer.Must(t, os.WriteFile(filepath.Join(dir, ".htaccess"), nil, 0o644))
	peer.Must(t, os.WriteFile(filepath.Join(dir, "bad\nname"), nil, 0o644))
	found, err := b.List(t.Context(), "")
	if err != nil || len(found) != 1 || found[0].Name != "images/web" {
		t.Errorf("list: %+v %v", found, err)
	}
	for _, name := range []string{"file", "dir", "dir/secret", "up", "images/same", "loop", "dangling", "pipe"} {
		if r, _, err := b.Open(t.Context(), name); err == nil {
			t.Errorf("open %s: it is there", name)
			peer.Must(t, r.Close())
		}
	}
	for _, name := range []string{"dir/secret", "dir/new", "up/new"} {
		if _, err := b.Put(t.Context(), name, strings.NewReader("x"), bucket.Condition{}); err == nil || errors.Is(err, bucket.ErrChanged) {
			t.Errorf("put %s: %v", name, err)
		}
		if err := b.Remove(t.Context(), name); err == nil {
			t.Errorf("remove %s: done", name)
		}
	}
	// One in the way of an object is replaced, not followed.
	buckettest.Put(t, b, "file", "ours")
	peer.Must(t, os.RemoveAll(filepath.Join(dir, ".tmp")))
	peer.Must(t, os.Symlink(outside, filepath.Join(dir, ".tmp")))
	if _, err := b.Put(t.Context(), "index", strings.NewReader("x"), bucket.Condition{}); err == nil {
		t.Error("put by way of a link: done")
	}
	entries, err := os.ReadDir(outside)
	peer.Must(t, err)
	if text, err := os.ReadFile(filepath.Join(outside, "secret")); err != nil || string(text) != "secret" || len(entries) != 1 {
		t.Errorf("outside: %q %v %v", text, err, entries)
	}
}

func TestAFileCannotBeWhereADirectoryIs(t *testing.T) {
	b := bucket.Dir(t.TempDir())
	buckettest.Put(t, b, "images/web", "w")
	for _, name := range []string{"images", "images/web/more"} {
		_, err := b.Put(t.Context(), name, strings.NewReader("x"), bucket.Condition{Absent: true})
		if err == nil || errors.Is(err, bucket.ErrChanged) || !strings.Contains(err.Error(), "a file cannot be where a directory of others is") {
			t.Errorf("put %s: %v", name, err)
		}
	}
}

// volume is a small file system of its own.
func volume(t *testing.T, options string) string {
	t.Helper()
	peer.NeedRoot(t, "a file system of its own")
	peer.OwnMounts(t)
	dir := t.TempDir()
	peer.Must(t, unix.Mount("none", dir, "tmpfs", 0, options))
	t.Cleanup(func() { peer.Must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

func TestAFullDiskLeavesWhatWasThere(t *testing.T) {
	for options, room := range map[string]int{"size=128k": 64 << 10, "size=1m,nr_inodes=7": 1} {
		dir := filepath.Join(volume(t, options), "repo")
		b := bucket.Dir(dir)
		buckettest.Put(t, b, "index", "old")
		full := 0
		for i := range 5 {
			for _, name := range []string{"index", fmt.Sprint("images/", i)} {
				text := string(buckettest.Bytes(room, uint64(i)))
				if name == "index" {
					text = strings.Repeat("i", 100<<10)
				}
				_, err := b.Put(t.Context(), name, strings.NewReader(text), bucket.Condition{})
				if err == nil {
					continue
				}
				full++
				if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "the disk of "+dir+" is full") {
					t.Errorf("%s: put %s: %v", options, name, err)
				}
				if left := inTmp(t, dir); len(left) > 0 {
					t.Errorf("%s: left: %q", options, left)
				}
			}
		}
		if text, _ := buckettest.Get(t, b, "index"); text != "old" && text != strings.Repeat("i", 100<<10) {
			t.Errorf("%s: %d bytes are there", options, len(text))
		}
		if full == 0 {
			t.Errorf("%s: nothing met the full disk", options)
		}
		peer.Must(t, b.Remove(t.Context(), "index"))
	}
}

func TestADirThatCannotBeWrittenServesItsObjects(t *testing.T) {
	dir := volume(t, "size=1m")
	b := bucket.Dir(dir)
	buckettest.Put(t, b, "index", "old")
	peer.Must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if text, _ := buckettest.Get(t, b, "index"); text != "old" {
		t.Errorf("%q is there", text)
	}
	if found, err := b.List(t.Context(), ""); err != nil || len(found) != 1 {
		t.Errorf("list: %v %v", found, err)
	}
	_, put := b.Put(t.Context(), "index", strings.NewReader("new"), bucket.Condition{})
	_, putBelow := bucket.Dir(filepath.Join(dir, "new/one")).Put(t.Context(), "index", strings.NewReader("new"), bucket.Condition{})
	for what, err := range map[string]error{"put": put, "put into a new one": putBelow, "remove": b.Remove(t.Context(), "index")} {
		if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "this user may not do that in "+dir) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
