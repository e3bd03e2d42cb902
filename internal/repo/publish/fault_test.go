package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herdbook/internal/bucket"
	"herdbook/internal/peer"
	"herdbook/internal/repo"
	"herdbook/internal/repo/audit"
)

// faulty is a bucket that fails at chosen calls, before or after they have done
// what they were asked for.
type faulty struct {
	bucket.Bucket
	calls  *atomic.Int64
	fails  func(call int64, writes bool) bool
	effect bool // it fails only after it is done
}

var errFault = errors.New("the bucket has a fault")

func (f faulty) do(writes bool, call func() error) error {
	fails := f.fails(f.calls.Add(1), writes)
	if fails && !f.effect {
		return errFault
	}
	if err := call(); err != nil || !fails {
		return err
	}
	return errFault
}

func (f faulty) Open(ctx context.Context, name string) (body io.ReadCloser, o bucket.Object, err error) {
	err = f.do(false, func() error {
		body, o, err = f.Bucket.Open(ctx, name)
		return err
	})
	return body, o, err
}

func (f faulty) Put(ctx context.Context, name string, c bucket.Content, condition bucket.Condition) (o bucket.Object, err error) {
	err = f.do(true, func() error {
		o, err = f.Bucket.Put(ctx, name, c, condition)
		return err
	})
	return o, err
}

func (f faulty) List(ctx context.Context, prefix string) (list []bucket.Object, err error) {
	err = f.do(false, func() error {
		list, err = f.Bucket.List(ctx, prefix)
		return err
	})
	return list, err
}

func (f faulty) Remove(ctx context.Context, name string) error {
	return f.do(true, func() error { return f.Bucket.Remove(ctx, name) })
}

// memory is a bucket whose writes cost nothing.
type memory struct {
	mu      sync.Mutex
	objects map[string]string
	puts    map[string]int
}

func newMemory() *memory { return &memory{objects: map[string]string{}, puts: map[string]int{}} }

func (m *memory) object(name string) bucket.Object {
	return bucket.Object{Name: name, Size: int64(len(m.objects[name])), Version: fmt.Sprint(m.puts[name]), Modified: noon}
}

func (m *memory) Open(_ context.Context, name string) (io.ReadCloser, bucket.Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	text, ok := m.objects[name]
	if !ok {
		return nil, bucket.Object{}, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return io.NopCloser(strings.NewReader(text)), m.object(name), nil
}

func (m *memory) Put(_ context.Context, name string, c bucket.Content, condition bucket.Condition) (bucket.Object, error) {
	text := make([]byte, c.Size())
	if _, err := c.ReadAt(text, 0); err != nil && err != io.EOF {
		return bucket.Object{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, there := m.objects[name]
	if condition.Absent && there || condition.Version != "" && (!there || condition.Version != m.object(name).Version) {
		return bucket.Object{}, bucket.ErrChanged
	}
	m.objects[name] = string(text)
	m.puts[name]++
	return m.object(name), nil
}

func (m *memory) List(_ context.Context, prefix string) ([]bucket.Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []bucket.Object
	for _, name := range slices.Sorted(maps.Keys(m.objects)) {
		if strings.HasPrefix(name, prefix) {
			list = append(list, m.object(name))
		}
	}
	return list, nil
}

func (m *memory) Remove(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, name)
	return nil
}

// task is one thing that is done to a repository.
type task struct {
	run  func(t *testing.T, r Repository) error
	done func(x repo.Index) bool
}

// tasks are what is done to a repository of two revisions, each with a proof that
// it is done.
var tasks = map[string]task{
	"publish": {
		func(t *testing.T, r Repository) error {
			_, err := r.Publish(t.Context(), revision(t, "web", "three"), nil)
			return err
		},
		func(x repo.Index) bool {
			e, err := x.Find(repo.Selector{Image: "web"})
			return err == nil && e.Layer == "three"
		},
	},
	"publish the first of an image": {
		func(t *testing.T, r Repository) error {
			_, err := r.Publish(t.Context(), revision(t, "app", "one"), nil)
			return err
		},
		func(x repo.Index) bool { _, err := x.Find(repo.Selector{Image: "app"}); return err == nil },
	},
	"promote": {
		func(t *testing.T, r Repository) error {
			_, err := r.Promote(t.Context(), repo.Selector{Image: "web", Revision: 1}, "testing")
			return err
		},
		func(x repo.Index) bool {
			e, err := x.Find(repo.Selector{Image: "web", Channel: "testing"})
			return err == nil && e.Revision == 1
		},
	},
	"prune": {
		func(t *testing.T, r Repository) error {
			_, err := r.Prune(t.Context(), repo.Policy{Keep: 1}, false)
			return err
		},
		func(x repo.Index) bool { return len(x.Entries) == 1 },
	},
}

// readable tells what a reader, by whichever door, finds wrong in a repository in
// the middle of something: a file that the index names is not there or altered.
// What no index names yet, or doors of the version before, are no fault.
func readable(t *testing.T, r Repository) {
	t.Helper()
	for _, f := range findings(t, r) {
		late := f.Kind != audit.Wrong && !strings.HasPrefix(f.Name, repo.ImageDir+"/") && f.Name != r.truth() && !strings.Contains(f.What, "signature")
		if f.Kind != audit.Extra && !late {
			t.Errorf("%+v", f)
		}
	}
}

// TestAStopAtAnyCallIsHarmless fails a task at each of its calls, before and after
// the effect, for good: all later ones fail, too. What is there then is a whole
// repository, and to do the task again does it.
func TestAStopAtAnyCallIsHarmless(t *testing.T) {
	for name, task := range tasks {
		for _, effect := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, effect %v", name, effect), func(t *testing.T) {
				bySignature(t, func(t *testing.T, r Repository) {
					for last := int64(1); stopAt(t, r, task, last, effect); last++ {
					}
				})
			})
		}
	}
}

// stopAt makes a new repository, stops the task at a call, and repeats it; false if
// it was done before that call.
func stopAt(t *testing.T, like Repository, task task, last int64, effect bool) bool {
	t.Helper()
	r := like
	r.Bucket = newMemory()
	for _, layer := range []string{"one", "two"} {
		publish(t, r, revision(t, "web", layer))
	}
	broken := r
	broken.Bucket = faulty{r.Bucket, new(atomic.Int64), func(call int64, _ bool) bool { return call >= last }, effect}
	err := task.run(t, broken)
	if err == nil {
		isWhole(t, r)
		return false
	}
	if !errors.Is(err, errFault) {
		t.Fatalf("call %d: %v", last, err)
	}
	readable(t, r)
	peer.Must(t, task.run(t, r))
	if name := "again after call"; !task.done(mustIndex(t, r)) {
		t.Errorf("%s %d: it is not done", name, last)
	}
	r.Now = noon.Add(48 * time.Hour) // what nobody came to name is old enough to go
	_, err = r.Prune(t.Context(), repo.Policy{}, false)
	peer.Must(t, err)
	isWhole(t, r)
	return true
}

func mustIndex(t *testing.T, r Repository) repo.Index {
	t.Helper()
	x, err := r.Index(t.Context())
	peer.Must(t, err)
	return x
}

// lying is a bucket whose first write of the index is made and said not to be.
type lying struct {
	bucket.Bucket
	lied *bool
}

func (l lying) Put(ctx context.Context, name string, c bucket.Content, condition bucket.Condition) (bucket.Object, error) {
	o, err := l.Bucket.Put(ctx, name, c, condition)
	if err == nil && name == repo.SignedIndexName && !*l.lied {
		*l.lied = true
		return o, bucket.ErrChanged
	}
	return o, err
}

func TestAStepBackIsMadeOnce(t *testing.T) {
	r := repository(t)
	r.Bucket = newMemory()
	for _, layer := range []string{"one", "two", "three"} {
		publish(t, r, revision(t, "web", layer))
	}
	r.Bucket = lying{r.Bucket, new(bool)}
	if e, err := r.Rollback(t.Context(), repo.Selector{Image: "web"}); err != nil || e.Revision != 2 {
		t.Errorf("%+v %v", e, err)
	}
	if e, err := isWhole(t, r).Find(repo.Selector{Image: "web"}); err != nil || e.Revision != 2 {
		t.Errorf("%+v %v", e, err)
	}
}

// TestReadersSeeAWholeRepositoryAtAnyMoment reads all the time while others publish,
// promote and prune.
func TestReadersSeeAWholeRepositoryAtAnyMoment(t *testing.T) {
	r := repository(t)
	publish(t, r, revision(t, "web", "first"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 12 {
			if _, err := r.Publish(t.Context(), revision(t, "web", fmt.Sprint("layer ", i)), nil); err != nil {
				t.Error(err)
			}
			if _, err := r.Promote(t.Context(), repo.Selector{Image: "web"}, "testing"); err != nil {
				t.Error(err)
			}
			if _, err := r.Prune(t.Context(), repo.Policy{Keep: 8}, false); err != nil {
				t.Error(err)
			}
		}
	}()
	version := 0
	for reads := 0; ; reads++ {
		x, err := r.Index(t.Context())
		if err != nil || x.Version < version {
			t.Fatalf("version %d after %d: %v", x.Version, version, err)
		}
		version = x.Version
		for _, channel := range []string{repo.Stable, "testing"} {
			e, err := x.Find(repo.Selector{Image: "web", Channel: channel})
			if errors.Is(err, repo.ErrNoImage) && channel == "testing" && version < 3 {
				continue
			}
			peer.Must(t, err)
			text, _, err := r.read(t.Context(), e.File)
			if err != nil || int64(len(text)) != e.CompressedSize {
				t.Fatalf("%s of version %d: %v", e.File, version, err)
			}
		}
		select {
		case <-done:
			t.Logf("%d reads", reads)
			isWhole(t, r)
			return
		default:
		}
	}
}
