package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"herdbook/internal/digest"
	"herdbook/internal/peer"
)

// The environment of a child process: what it does, and with which store.
const (
	deedVariable  = "HERDBOOK_TEST_DEED"
	storeVariable = "HERDBOOK_TEST_STORE"
)

// deeds are what another process does with a store. It says "ready" on its
// standard output when it holds what it should, and ends with its input.
var deeds = map[string]func(*Store) error{
	"make layers": func(s *Store) error { return makeLayers(s, os.Stdout) },
	"collect": func(s *Store) error {
		_, err := s.Collect(dawn.Add(10*day), Policy{MaxAge: 1})
		return err
	},
	"use": func(s *Store) error {
		done, err := s.Use(context.Background())
		return errors.Join(err, ready(), done())
	},
	"lock a key": func(s *Store) error {
		unlock, err := s.LockKey(context.Background(), key("x"))
		return errors.Join(err, ready(), unlock())
	},
	"work": func(s *Store) error {
		w, err := begin(s, "x", "")
		return errors.Join(err, ready(), w.Discard())
	},
	"commit the same": func(s *Store) error { return commitMany(s, "same key") },
	"commit by another key": func(s *Store) error {
		return commitMany(s, "other key")
	},
}

// TestDeed is no test, but the main function of the other process.
func TestDeed(t *testing.T) {
	deed := deeds[os.Getenv(deedVariable)]
	if deed == nil {
		return // not a child
	}
	s, err := Open(os.Getenv(storeVariable))
	peer.Must(t, err)
	peer.Must(t, deed(s))
}

// makeLayers does all that a build does with a store, and says what is done.
func makeLayers(s *Store, say io.Writer) error {
	done, err := s.Use(context.Background())
	if err != nil {
		return err
	}
	base, _, err := s.Lookup(key("base"))
	if err != nil {
		return err
	}
	parent := base.Digest
	for _, name := range []string{"one", "two"} {
		unlock, err := s.LockKey(context.Background(), key(name))
		if err != nil {
			return err
		}
		l, err := commit(s, name, parent)
		if err := errors.Join(err, unlock()); err != nil {
			return err
		}
		fmt.Fprintln(say, "made", name)
		parent = l.Digest
	}
	if err := errors.Join(s.Record(key("proof"), parent), s.Touch(base.Digest, dawn.Add(day))); err != nil {
		return err
	}
	fmt.Fprintln(say, "made proof")
	for range 2 {
		w, err := begin(s, "failure", parent)
		if err != nil {
			return err
		}
		if err := w.Keep("image"); err != nil {
			return err
		}
	}
	return errors.Join(s.Reach(filepath.Dir(s.Dir()), []digest.Digest{parent}), done())
}

func ready() error {
	fmt.Println("ready")
	_, err := io.ReadAll(os.Stdin)
	return err
}

// child is a process that does one deed.
func child(t *testing.T, s *Store, deed string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	peer.Must(t, err)
	c := exec.Command(self, "-test.run=^TestDeed$")
	c.Env = append(os.Environ(), deedVariable+"="+deed, storeVariable+"="+s.Dir(),
		"TMPDIR="+filepath.Dir(s.Dir()))
	return c
}

// other is a child that is ready. End lets it finish, kill does not.
type other struct {
	t     *testing.T
	c     *exec.Cmd
	stdin io.Closer
}

func start(t *testing.T, s *Store, deed string) other {
	t.Helper()
	c := child(t, s, deed)
	c.Stderr = os.Stderr
	stdin, err := c.StdinPipe()
	peer.Must(t, err)
	stdout, err := c.StdoutPipe()
	peer.Must(t, err)
	peer.Must(t, c.Start())
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the other process says %q: %v, %v", line, err, c.Wait())
	}
	return other{t, c, stdin}
}

func (o other) end() {
	o.t.Helper()
	peer.Must(o.t, errors.Join(o.stdin.Close(), o.c.Wait()))
}

func (o other) kill() {
	o.t.Helper()
	peer.Must(o.t, o.c.Process.Kill())
	var exit *exec.ExitError
	if err := o.c.Wait(); !errors.As(err, &exit) {
		o.t.Fatal(err)
	}
}

// soon is a context for what must not be had: it is long over.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestAKeyIsLockedForOtherProcesses(t *testing.T) {
	s := open(t)
	holder := start(t, s, "lock a key")
	if _, err := s.LockKey(soon(t), key("x")); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "another herdbook that makes the same layer") {
		t.Errorf("the same key: %v", err)
	}
	unlock, err := s.LockKey(t.Context(), key("y"))
	peer.Must(t, err)
	peer.Must(t, unlock())
	holder.kill()
	unlock, err = s.LockKey(t.Context(), key("x"))
	peer.Must(t, err)
	peer.Must(t, unlock())
}

func TestAKeyIsLockedForOtherGoroutines(t *testing.T) {
	s := open(t)
	unlock, err := s.LockKey(t.Context(), key("x"))
	peer.Must(t, err)
	if _, err := s.LockKey(soon(t), key("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second time: %v", err)
	}
	waited := make(chan error)
	go func() {
		unlock, err := s.LockKey(t.Context(), key("x"))
		if err == nil {
			err = unlock()
		}
		waited <- err
	}()
	peer.Must(t, unlock())
	peer.Must(t, <-waited)
}

func TestNothingIsCollectedWhileAnotherProcessUsesTheStore(t *testing.T) {
	s, _ := herd(t)
	user := start(t, s, "use")
	second := start(t, s, "use") // many may at once
	done, err := s.Use(t.Context())
	peer.Must(t, err)
	for _, end := range []func(){user.end, second.kill, func() { peer.Must(t, done()) }} {
		for _, dry := range []bool{true, false} {
			r, err := s.Collect(dawn.Add(10*day), Policy{MaxAge: 1, DryRun: dry})
			if !errors.Is(err, ErrInUse) || len(r.Layers) > 0 {
				t.Errorf("collect: %+v %v", r, err)
			}
		}
		end()
	}
	r, err := s.Collect(dawn.Add(10*day), Policy{MaxAge: 1})
	if err != nil || len(r.Layers) != 5 {
		t.Errorf("collect in the end: %+v %v", r, err)
	}
}

func TestUseWaitsForTheEndOfACollection(t *testing.T) {
	s := open(t)
	// As Collect does.
	lock := flock.New(filepath.Join(s.Dir(), "locks", "use"))
	peer.Must(t, lock.Lock())
	if _, err := s.Use(soon(t)); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait for the end of a collection") {
		t.Errorf("use: %v", err)
	}
	peer.Must(t, lock.Unlock())
	done, err := s.Use(t.Context())
	peer.Must(t, err)
	peer.Must(t, done())
}

func TestWorkOfALivingProcessIsNotCollected(t *testing.T) {
	s := open(t)
	worker := start(t, s, "work")
	r, err := s.Collect(dawn.Add(1000*day), Policy{MaxAge: 1})
	if err != nil || len(r.Work) > 0 {
		t.Errorf("while it lives: %+v %v", r, err)
	}
	found, _ := filepath.Glob(filepath.Join(s.Dir(), "*", "work-*"))
	if len(found) != 2 { // the directory and its lock
		t.Fatalf("while it lives: %v", found)
	}
	worker.kill()
	for _, dry := range []bool{true, false} {
		r, err = s.Collect(dawn, Policy{DryRun: dry})
		if err != nil || len(r.Work) != 1 || r.Work[0] != filepath.Base(found[0]) {
			t.Errorf("when it is dead: %+v %v", r, err)
		}
		if _, err := os.Stat(found[0]); os.IsNotExist(err) == dry {
			t.Errorf("dry %v: %v", dry, err)
		}
	}
	checkTidy(t, s)
}

// commitMany commits the same layers as another process at the same time.
func commitMany(s *Store, by string) error {
	if err := ready(); err != nil {
		return err
	}
	for i := range 50 {
		// Made anew by both in each round, since equal content is found there
		// from the second commit on.
		name := fmt.Sprintf("contested %d", i)
		w, err := begin(s, name, "")
		if err != nil {
			return err
		}
		l, err := w.Commit(Layer{Key: key(name + by), Step: name, Created: dawn})
		if err != nil {
			return err
		}
		if found, ok, err := s.Lookup(key(name + by)); err != nil || !ok || found.Digest != l.Digest {
			return fmt.Errorf("%s just committed is not there: %+v %v %w", name, found, ok, err)
		}
		text, err := os.ReadFile(s.DiskPath(l.Digest))
		if err != nil || digest.Of(text) != l.Digest {
			return fmt.Errorf("%s just committed is not whole: %w", name, err)
		}
	}
	return nil
}

func TestTwoProcessesMayCommitTheSameLayers(t *testing.T) {
	for _, second := range []string{"commit the same", "commit by another key"} {
		t.Run(second, func(t *testing.T) {
			s := open(t)
			// Damaged ones are in the way of both.
			for i := range 25 {
				l := mustCommit(t, s, fmt.Sprintf("contested %d", 2*i), "")
				peer.Must(t, os.Truncate(s.DiskPath(l.Digest), 1))
			}
			a, b := start(t, s, "commit the same"), start(t, s, second)
			peer.Must(t, errors.Join(a.stdin.Close(), b.stdin.Close()))
			peer.Must(t, errors.Join(a.c.Wait(), b.c.Wait()))
			list, err := s.List()
			if err != nil || len(list) != 50 {
				t.Errorf("%d layers: %v", len(list), err)
			}
			checkWhole(t, s)
			_, err = s.Collect(dawn, Policy{})
			peer.Must(t, err)
			checkTidy(t, s)
		})
	}
}
