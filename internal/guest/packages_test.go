package guest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

// commands carries out an operation on a recorder, holds the commands against
// testdata/KIND/CASE.golden and the tree's changes against what is in front of them.
func (g *guestTest) commands(t *testing.T, name string, o op.Operation) {
	t.Helper()
	r := &recorder{}
	g.Runner = r
	got, err := g.changes(t, o)
	if err != nil {
		t.Fatal(err)
	}
	peer.Golden(t, filepath.Join(o.Kind(), name+".golden"), []byte(got+r.String()))
}

func TestPackagesRunsApt(t *testing.T) {
	g := newGuest(t)
	for name, o := range map[string]*op.Packages{
		"install": {Install: []string{"curl", "nginx=1.22*"}},
		"remove":  {Remove: []string{"nano", "vim"}},
		"update":  {Update: true},
		"all":     {Install: []string{"curl"}, Remove: []string{"nano"}, Update: true},
	} {
		g.commands(t, name, o)
	}
}

func TestPackagesStopsAtTheFirstFailure(t *testing.T) {
	g := newGuest(t)
	r := &recorder{failing: "dist-upgrade", fail: 100}
	g.Runner = r
	err := Apply(t.Context(), g.Guest, &op.Packages{Install: []string{"curl"}, Remove: []string{"nano"}, Update: true})
	var failure *Error
	if !errors.As(err, &failure) || failure.Status != 100 || err.Error() != "apt-get ended with status 100" || len(r.commands) != 2 {
		t.Errorf("error %v after %d commands", err, len(r.commands))
	}
	broken := errors.New("no such program")
	g.Runner = &recorder{failing: "update", err: broken}
	if err := Apply(t.Context(), g.Guest, &op.Packages{Update: true}); !errors.Is(err, broken) {
		t.Errorf("error %v, want the runner's", err)
	}
}

func TestPackagesNeedsAManager(t *testing.T) {
	g := newGuest(t)
	peer.Must(t, os.Remove(filepath.Join(g.dir, "usr/bin/apt-get")))
	g.refuse(t, &op.Packages{Update: true}, "no package manager that herdbook knows")
}
