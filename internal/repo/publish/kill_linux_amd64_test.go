package publish

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"herdbook/internal/bucket"
	"herdbook/internal/peer"
	"herdbook/internal/repo"
	"herdbook/internal/signed"
)

// The environment of a child that publishes.
const dirVariable, keyVariable = "HERDBOOK_TEST_DIR", "HERDBOOK_TEST_KEY"

// TestChild is not a test but what a child does.
func TestChild(t *testing.T) {
	dir := os.Getenv(dirVariable)
	if dir == "" {
		return
	}
	signer, err := signed.NewSigner([]byte(os.Getenv(keyVariable)), noon)
	peer.Must(t, err)
	r := Repository{Bucket: bucket.Dir(dir), Address: dir, Signer: signer, Now: noon, ValidFor: time.Hour}
	_, err = r.Publish(context.Background(), revision(t, "web", "two"), nil)
	peer.Must(t, err)
}

// TestAKillAtAnyWriteIsHarmless kills a publisher before its first change of a
// directory, before its second, and so on to the end.
func TestAKillAtAnyWriteIsHarmless(t *testing.T) {
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	self, err := os.Executable()
	peer.Must(t, err)
	secret, err := signed.NewKey("herdbook images", noon)
	peer.Must(t, err)
	killed := 0
	for at := "the start"; at != ""; killed++ {
		r := repository(t)
		r.Signer, err = signed.NewSigner(secret, noon)
		peer.Must(t, err)
		publish(t, r, revision(t, "web", "one"))
		c := exec.Command(self, "-test.run=^TestChild$")
		c.Env = append(os.Environ(), dirVariable+"="+r.Address, keyVariable+"="+string(secret))
		at, _ = peer.UntilWrite(t, c, r.Address, killed)
		readable(t, r)
		if e := publish(t, r, revision(t, "web", "two")); e.Revision != 2 || !e.Has(repo.Stable) {
			t.Errorf("%+v", e)
		}
		isWhole(t, r)
		if left, _ := filepath.Glob(filepath.Join(r.Address, ".tmp", "put-*")); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		if t.Failed() {
			t.Fatalf("killed at write %d: %s", killed, at)
		}
	}
	if killed < 30 {
		t.Errorf("killed only %d times: does the tracer see the writes?", killed)
	}
}
