package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/peer"
)

func TestSysprep(t *testing.T) {
	newGuest(t).golden(t, "all", &op.Sysprep{})
	for _, name := range op.SysprepOperations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newGuest(t).golden(t, name, &op.Sysprep{Operations: []string{name}})
		})
	}
}

func TestSysprepSaysWhatItDoesInOrder(t *testing.T) {
	g := newGuest(t)
	peer.Must(t, Apply(t.Context(), g.Guest, &op.Sysprep{Operations: []string{"machine-id", "logfiles"}}))
	var phases []string
	for _, e := range g.events {
		if e.Kind == event.Phase {
			phases = append(phases, e.Text)
		}
	}
	if got := strings.Join(phases, ", "); got != "sysprep logfiles, sysprep machine-id" {
		t.Errorf("phases %s", got)
	}
}

func TestSysprepTwiceChangesNothingMore(t *testing.T) {
	g := newGuest(t)
	peer.Must(t, Apply(t.Context(), g.Guest, &op.Sysprep{}))
	got, err := g.changes(t, &op.Sysprep{})
	if err != nil || got != "" {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestSysprepOfAnEmptyTree(t *testing.T) {
	root, err := OpenRoot(sandbox(t))
	peer.Must(t, err)
	defer root.Close()
	g := &guestTest{Guest: &Guest{Root: root}, dir: root.Dir()}
	got, err := g.changes(t, &op.Sysprep{})
	if err != nil || got != "" {
		t.Errorf("%v\n%s", err, got)
	}
}

// Where the distribution makes host keys itself, or has no sshd, no unit comes.
func TestSysprepAddsHostKeysOnlyWhereNeeded(t *testing.T) {
	only := &op.Sysprep{Operations: []string{"ssh-hostkeys"}}
	newGuest(t, node{path: "/usr/lib/systemd/system/sshd-keygen.target", content: "[Unit]\n"}).golden(t, "ssh-hostkeys-of-fedora", only)
	g := newGuest(t)
	peer.Must(t, os.Remove(filepath.Join(g.dir, "usr/sbin/sshd")))
	g.golden(t, "ssh-hostkeys-without-sshd", only)
}

func TestSysprepOfTheMachineID(t *testing.T) {
	only := &op.Sysprep{Operations: []string{"machine-id"}}
	for name, nodes := range map[string][]node{
		"machine-id-copied": {{path: "/var/lib/dbus/machine-id", content: "0123456789abcdef0123456789abcdef\n"}},
		"machine-id-link":   {{path: "/etc/machine-id", link: "/etc/passwd"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			for _, n := range nodes {
				peer.Must(t, os.Remove(filepath.Join(g.dir, n.path)))
			}
			plant(t, g.dir, nodes)
			g.golden(t, name, only)
		})
	}
}

// What a hostile image puts at these places is removed itself or let be; nothing
// behind it is touched.
func TestSysprepStaysInTheRoot(t *testing.T) {
	outside := sandbox(t)
	plant(t, outside, []node{{path: "/a.log", content: "x"}, {path: "/ssh_host_key", content: "x"}, {path: "/random-seed", content: "x"}, {path: "/x.bin", content: "x"}})
	before := snapshot(t, outside)
	dir := sandbox(t)
	up := "../../../../../../../.." + outside
	plant(t, dir, []node{
		{path: "/var/log", link: outside}, {path: "/tmp", link: up}, {path: "/var/tmp", link: up}, {path: "/etc/ssh", link: outside},
		{path: "/var/cache/apt", link: up}, {path: "/var/lib/apt/lists", link: outside}, {path: "/var/lib/systemd", link: up},
		{path: "/var/lib/dhcp", link: "dhcp"}, {path: "/etc/machine-id", link: up + "/a.log"}, {path: "/root", link: "/"},
	})
	root, err := OpenRoot(dir)
	peer.Must(t, err)
	defer root.Close()
	if err := Apply(t.Context(), &Guest{Root: root}, &op.Sysprep{}); err != nil {
		t.Logf("an error is fine here: %v", err)
	}
	if got := diff(before, snapshot(t, outside)); got != "" {
		t.Errorf("it got out:\n%s", got)
	}
}
