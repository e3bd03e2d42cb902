package build

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"herdbook/internal/definition"
	"herdbook/internal/digest"
	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/op"
	"herdbook/internal/peer"
	"herdbook/internal/plan"
	"herdbook/internal/store"
	"herdbook/internal/wire"
	"herdbook/internal/workshop"
)

// recorder keeps what happened, as "IMAGE STEP KIND".
type recorder struct {
	mu   sync.Mutex
	list []string
}

func (r *recorder) sink(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, strings.TrimSpace(e.Image+" "+e.Step+" "+string(e.Kind)))
}

func (r *recorder) has(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range want {
		if !slices.Contains(r.list, w) {
			t.Errorf("%q was not reported: %q", w, r.list)
		}
	}
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// newBuilder makes a builder whose machines cannot start: there is no agent.
func newBuilder(t *testing.T, sink event.Sink) *Builder {
	t.Helper()
	s, err := store.Open(t.TempDir())
	peer.Must(t, err)
	return &Builder{
		Store: s, Sink: sink, Now: func() time.Time { return epoch }, Jobs: 2, Memory: 512, CPUs: 1, KeepFailed: true,
		Accelerator: func(context.Context) (machine.Accelerator, error) { return machine.TCG, nil },
		Agent:       func() ([]byte, error) { return nil, workshop.ErrNoAgent },
	}
}

// hostnames is an image of steps that set a name each.
func hostnames(name, from string, steps ...string) plan.Image {
	image := plan.Image{Image: definition.Image{Name: name, From: from}}
	for _, s := range steps {
		image.Steps = append(image.Steps, plan.Step{
			Step:  definition.Step{Kind: "hostname", Name: s, Operation: &op.Hostname{Name: s}, Position: "herdbook.hcl:7"},
			Image: name,
		})
	}
	return image
}

// lay puts a layer into the store, as if a step had been made.
func lay(t *testing.T, s *store.Store, key store.Key, parent digest.Digest) digest.Digest {
	t.Helper()
	w, err := s.Begin(parent)
	peer.Must(t, err)
	args := []string{"create", "-q", "-f", "qcow2"}
	if parent != "" {
		args = append(args, "-b", w.BackingName(), "-F", "qcow2", w.DiskPath())
	} else {
		args = append(args, w.DiskPath(), "64M")
	}
	peer.NeedTool(t, "qemu-img")
	peer.Run(t, "qemu-img", args...)
	layer, err := w.Commit(store.Layer{Key: key, Created: epoch})
	peer.Must(t, err)
	return layer.Digest
}

func TestWhatIsThereIsNotMadeAgain(t *testing.T) {
	var seen recorder
	b := newBuilder(t, seen.sink)
	base, child := hostnames("base", "", "a", "b"), hostnames("child", "base", "c")
	a := lay(t, b.Store, base.Steps[0].Key(""), "")
	bb := lay(t, b.Store, base.Steps[1].Key(a), a)
	c := lay(t, b.Store, child.Steps[0].Key(bb), bb)
	layers, err := b.Build(t.Context(), &plan.Plan{Images: []plan.Image{base, child}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]digest.Digest{"base": bb, "child": c}, layers); diff != "" {
		t.Error(diff)
	}
	seen.has(t, `base hostname "a" cached`, `child hostname "c" cached`)
}

func TestAFailureStopsWhatStandsOnIt(t *testing.T) {
	var seen recorder
	b := newBuilder(t, seen.sink)
	base, other := hostnames("base", "", "a"), hostnames("other", "base", "missing", "behind")
	a := lay(t, b.Store, base.Steps[0].Key(""), "")
	good := hostnames("good", "base", "x")
	x := lay(t, b.Store, good.Steps[0].Key(a), a)
	grandchild := hostnames("grandchild", "other", "y")
	layers, err := b.Build(t.Context(), &plan.Plan{Images: []plan.Image{base, other, good, grandchild}})
	if diff := cmp.Diff(map[string]digest.Digest{"base": a, "good": x}, layers); diff != "" {
		t.Error(diff)
	}
	var step *StepError
	if !errors.As(err, &step) || !errors.Is(err, workshop.ErrNoAgent) {
		t.Fatalf("the error: %v", err)
	}
	if step.Image != "other" || step.Step != `hostname "missing"` || step.Position != "herdbook.hcl:7" || step.Kept == "" {
		t.Errorf("%+v", step)
	}
	if strings.Contains(err.Error(), "grandchild") {
		t.Errorf("what was never begun is no failure: %v", err)
	}
	seen.has(t, `other hostname "missing" failed`, `other hostname "behind" skipped`, `grandchild hostname "y" skipped`, `good hostname "x" cached`)
	if _, kept := b.Store.Failed("other"); !kept {
		t.Error("the disk of the failed step is not there")
	}

	// The next build begins at the failed step again.
	b.KeepFailed = false
	if _, err := b.Build(t.Context(), &plan.Plan{Images: []plan.Image{base, other}}); !errors.As(err, &step) || step.Kept != "" {
		t.Errorf("the second failure: %v", err)
	}
}

func TestCancelledLeavesNothing(t *testing.T) {
	b := newBuilder(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	b.Agent = func() ([]byte, error) {
		cancel()
		return nil, ctx.Err()
	}
	base := hostnames("base", "", "a", "b")
	lay(t, b.Store, base.Steps[0].Key(""), "")
	if _, err := b.Build(ctx, &plan.Plan{Images: []plan.Image{base}}); !errors.Is(err, context.Canceled) {
		t.Errorf("the error: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(b.Store.Dir(), "layers", "*-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

func TestAFullStoreSaysWhatToDo(t *testing.T) {
	b := newBuilder(t, nil)
	b.Agent = func() ([]byte, error) { return nil, errors.New("mke2fs: No space left on device") }
	base := hostnames("base", "", "a", "b")
	lay(t, b.Store, base.Steps[0].Key(""), "")
	if _, err := b.Build(t.Context(), &plan.Plan{Images: []plan.Image{base}}); err == nil || !strings.Contains(err.Error(), "herdbook store gc") {
		t.Errorf("the error: %v", err)
	}
	// A guest's own disk is not the store.
	inGuest := &workshop.FailedError{Result: wire.Result{Error: "write /x: No space left on device"}}
	if err := (&run{Builder: b}).explain(inGuest); err != error(inGuest) {
		t.Errorf("the error: %v", err)
	}
}

// inputs walks a directory as the definition does.
func inputs(t *testing.T, dir string) []definition.Input {
	t.Helper()
	d, err := definition.Load(dir, definition.Options{})
	peer.Must(t, err)
	return d.Images[0].Steps[0].Files
}

func TestFilesOfACopyAreThoseOfTheKey(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"files/a": "alpha", "files/deep/b": "beta", "herdbook.hcl": `
image "x" {
  bootstrap "mmdebstrap" {
    suite  = "bookworm"
    mirror = "http://mirror.invalid"
  }
  step "copy" "files" {
    source      = "files"
    destination = "/srv"
  }
}`} {
		peer.Must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		peer.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o640))
	}
	peer.Must(t, os.Symlink("a", filepath.Join(dir, "files/link")))
	peer.Must(t, os.Chmod(filepath.Join(dir, "files/a"), 0o755))
	files := inputs(t, dir)
	given := func() (workshop.Session, error) {
		s := workshop.Session{Scratch: t.TempDir()}
		err := equip(&s, []op.Operation{&op.Delete{}, &op.Copy{}}, [][]definition.Input{nil, files})
		return s, err
	}
	session, err := given()
	peer.Must(t, err)
	if laid, ok := session.Job.Operations[1].Operation.(*op.Copy); !ok || laid.Payload != "files-1" {
		t.Errorf("operations %+v", session.Job.Operations)
	}
	path := session.Files
	f, err := os.Open(path)
	peer.Must(t, err)
	defer f.Close()
	var got []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		peer.Must(t, err)
		content, err := io.ReadAll(r)
		peer.Must(t, err)
		if !h.ModTime.IsZero() && h.ModTime.Unix() != 0 || h.Uid != 0 || h.Uname != "" {
			t.Errorf("%s has a time or an owner of the host: %+v", h.Name, h)
		}
		mode := ""
		if h.Typeflag == tar.TypeReg {
			mode = " " + os.FileMode(h.Mode).String()
		}
		got = append(got, strings.TrimSpace(h.Name+mode+" "+h.Linkname+string(content)))
	}
	want := []string{"files-1", "files-1/a -rwxr-xr-x alpha", "files-1/deep", "files-1/deep/b -rw-r----- beta", "files-1/link a"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if stat, err := os.Stat(path); err != nil || stat.Size()%512 != 0 || stat.Size() < 1<<20 {
		t.Errorf("its size is none of a disk: %v, %v", stat, err)
	}

	// What changed after the key was made is refused, whatever its size.
	for _, content := range []string{"ALPHA", "alpha and more", ""} {
		peer.Must(t, os.WriteFile(filepath.Join(dir, "files/a"), []byte(content), 0o755))
		if _, err := given(); err == nil || !strings.Contains(err.Error(), "files/a") {
			t.Errorf("a file that became %q: %v", content, err)
		}
	}
}

func TestTheJournalKeepsEverythingAndTheLastLines(t *testing.T) {
	var out bytes.Buffer
	j := &journal{w: &out, now: func() time.Time { return epoch }}
	sink := event.Sink(j.sink)
	for range 20 {
		sink.Line(event.Stdout, "said")
		sink.Line(event.Console, "console")
	}
	sink.Emit(event.Event{Kind: event.Progress, Done: 1})
	said := j.last(true)
	if len(said) != lastLines || slices.Contains(said, "console") {
		t.Errorf("the last lines of programs: %q", said)
	}
	if all := j.last(false); len(all) != lastLines || all[lastLines-1] != "console" || all[lastLines-2] != "said" {
		t.Errorf("the last lines: %q", all)
	}
	n := 0
	for line := range bytes.Lines(out.Bytes()) {
		var e event.Event
		if err := json.Unmarshal(line, &e); err != nil || !e.Time.Equal(epoch) || e.Kind != event.Log {
			t.Errorf("line %d: %s, %v", n, line, err)
		}
		n++
	}
	if n != 40 {
		t.Errorf("%d lines in the log, want 40", n)
	}
}

// An installer takes the place of as many machines as have its memory together,
// but never waits for more than there are.
func TestInstallersTakeTheRoomTheyNeed(t *testing.T) {
	for _, c := range []struct {
		memory, jobs int
		want         int64
	}{{0, 4, 1}, {512, 4, 1}, {1024, 4, 1}, {1025, 4, 2}, {4096, 8, 4}, {4096, 2, 2}, {4096, 0, 1}} {
		r := &run{Builder: &Builder{Memory: 1024, Jobs: c.jobs}}
		if got := r.slotsFor(plan.Step{Install: &definition.Install{Memory: c.memory}}); got != c.want {
			t.Errorf("%d MiB, %d jobs: %d, want %d", c.memory, c.jobs, got, c.want)
		}
		if got := r.slotsFor(plan.Step{}); got != 1 {
			t.Errorf("any other step: %d", got)
		}
	}
}
