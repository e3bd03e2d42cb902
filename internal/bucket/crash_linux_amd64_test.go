package bucket_test

import (
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"herdbook/internal/bucket"
	"herdbook/internal/bucket/buckettest"
	"herdbook/internal/peer"
)

// TestObjectsSurviveAKillAtAnyWrite kills a process before its first change of a
// directory, before its second, and so on to the end.
func TestObjectsSurviveAKillAtAnyWrite(t *testing.T) {
	inMemory(t)
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	killed := 0
	for at := "the start"; at != ""; killed++ {
		dir := filepath.Join(t.TempDir(), "repo")
		b := bucket.Dir(dir)
		buckettest.Put(t, b, "index", "old")
		buckettest.Put(t, b, "gone/by/then", "g")
		var said string
		at, said = peer.UntilWrite(t, child(t, dir, "put"), dir, killed)
		checkPut(t, b, said)
		checkPlain(t, dir)
		// The next one does not mind, and clears what is left.
		_, err := b.Put(t.Context(), "other", strings.NewReader("o"), bucket.Condition{Absent: true})
		peer.Must(t, err)
		if left := inTmp(t, dir); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		peer.Must(t, b.Remove(t.Context(), "images/deep/web"))
		peer.Must(t, putAll(b, io.Discard))
		checkPut(t, b, "put index put images/deep/web removed")
		if t.Failed() {
			t.Fatalf("killed at write %d: %s", killed, at)
		}
	}
	if killed < 30 {
		t.Errorf("killed only %d times: does the tracer see the writes?", killed)
	}
}

// checkPut makes sure that what was said to be done is, and all is whole.
func checkPut(t *testing.T, b bucket.Bucket, said string) {
	t.Helper()
	found, err := b.List(t.Context(), "")
	peer.Must(t, err)
	there := map[string]string{}
	for _, o := range found {
		there[o.Name], _ = buckettest.Get(t, b, o.Name)
	}
	if text := there["index"]; text != "new" && (text != "old" || strings.Contains(said, "put index")) {
		t.Errorf("after %q the index is %q", said, text)
	}
	if text, ok := there["images/deep/web"]; text != strings.Repeat("w", 2<<20) && (ok || strings.Contains(said, "put images/deep/web")) {
		t.Errorf("after %q there are %d bytes of the image: %v", said, len(text), ok)
	}
	if text, ok := there["gone/by/then"]; ok && (text != "g" || strings.Contains(said, "removed")) {
		t.Errorf("after %q %q was not removed", said, text)
	}
}

// checkPlain makes sure that a web server sees nothing that is not whole.
func checkPlain(t *testing.T, dir string) {
	t.Helper()
	peer.Must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && path != dir && strings.HasPrefix(e.Name(), ".") {
			return fs.SkipDir
		}
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode() != 0o644 {
			t.Errorf("%s: %v", path, info.Mode())
		}
		return err
	}))
}
