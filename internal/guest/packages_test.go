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

// A target's package that is there costs nothing, and no network.
func TestPackagesInstallsWhatIsMissing(t *testing.T) {
	g := newGuest(t)
	g.commands(t, "missing-none", &op.Packages{Install: []string{"curl", "nginx"}, Missing: true})
	g.Runner = &recorder{failing: "nginx", fail: 1}
	err := Apply(t.Context(), g.Guest, &op.Packages{Install: []string{"curl", "nginx"}, Missing: true})
	commands := g.Runner.(*recorder).commands
	if last := commands[len(commands)-1].Args; err == nil || len(commands) != 4 || last[len(last)-1] != "nginx" || last[len(last)-2] != "--" {
		t.Errorf("error %v after %v", err, commands)
	}
	g.commands(t, "of-this-manager", &op.Packages{Install: []string{"nfs-utils"}, Elsewhere: map[string]string{"apt": "nfs-common rsync"}})
}

// Every manager asks nothing, and gets a list of the repositories first.
func TestPackagesRunsEveryManager(t *testing.T) {
	for _, m := range managers {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			peer.Must(t, os.Remove(filepath.Join(g.dir, "usr/bin/apt-get")))
			for _, name := range m.files {
				if !g.Root.Exists(name) {
					plant(t, g.dir, []node{{path: name, mode: 0o755, content: "#!/bin/sh\n"}})
				}
			}
			g.commands(t, "with-"+m.name, &op.Packages{Install: []string{"curl", "nginx"}, Remove: []string{"nano"}, Update: true})
			g.commands(t, "has-"+m.name, &op.Packages{Install: []string{"curl"}, Missing: true})
		})
	}
}

// Fedora has a package apt, which has nothing to do with Fedora's packages.
func TestPackagesPrefersTheSystemsManager(t *testing.T) {
	g := newGuest(t, node{path: "/usr/bin/dnf", mode: 0o755}, node{path: "/usr/bin/yum", link: "dnf"})
	peer.Must(t, os.Remove(filepath.Join(g.dir, "var/lib/dpkg/status")))
	if _, m, err := g.manager(); err != nil || m != (dnf{"dnf"}) {
		t.Errorf("%#v, %v", m, err)
	}
}

// What zypper says with its exit status is not always a failure.
func TestPackagesReadsZyppersStatus(t *testing.T) {
	g := newGuest(t, node{path: "/usr/bin/zypper", mode: 0o755})
	peer.Must(t, os.Remove(filepath.Join(g.dir, "usr/bin/apt-get")))
	for status, good := range map[int]bool{102: true, 103: true, 4: false, 104: false, 106: false, 107: false} {
		g.Runner = &recorder{failing: "install", fail: status}
		err := Apply(t.Context(), g.Guest, &op.Packages{Install: []string{"curl"}})
		if (err == nil) != good {
			t.Errorf("status %d: %v", status, err)
		}
	}
	g.Runner = &recorder{failing: "refresh", fail: 4}
	if err := Apply(t.Context(), g.Guest, &op.Packages{Install: []string{"curl"}}); err == nil {
		t.Error("a failing refresh was swallowed")
	}
}
