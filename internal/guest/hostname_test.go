package guest

import (
	"os"
	"path/filepath"
	"testing"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

func TestHostnameIsKnownToHosts(t *testing.T) {
	for name, c := range map[string]struct {
		hosts    string // instead of the fixture's
		hostname string
	}{
		"replaces":       {hosts, "web"},
		"with-domain":    {hosts, "web.example.org"},
		"same-again":     {hosts, "old-name"},
		"no-entry":       {"127.0.0.1 localhost\n", "web"},
		"no-localhost":   {"10.0.0.1 gateway", "web"},
		"no-line-end":    {"127.0.0.1 localhost", "web"},
		"several":        {"127.0.0.1 a\n127.0.1.1 x\n127.0.0.1 b\n  127.0.1.1\ty\n", "web"},
		"only-lookalike": {"127.0.0.10 a\n127.0.1.100 b\n#127.0.0.1 c\n", "web"},
		"empty":          {"", "web"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t)
			peer.Must(t, os.WriteFile(filepath.Join(g.dir, "etc/hosts"), []byte(c.hosts), 0o644))
			g.golden(t, name, &op.Hostname{Name: c.hostname})
		})
	}
}

// A container's or an administrator's file can be a link and have its own mode.
func TestHostnameKeepsLinksAndModes(t *testing.T) {
	g := newGuest(t, node{path: "/etc/own/hosts", mode: 0o600, gid: 4, content: "127.0.0.1 localhost\n"})
	peer.Must(t, os.Remove(filepath.Join(g.dir, "etc/hosts")))
	peer.Must(t, os.Symlink("/etc/own/hosts", filepath.Join(g.dir, "etc/hosts")))
	peer.Must(t, os.Remove(filepath.Join(g.dir, "etc/hostname")))
	g.golden(t, "link", &op.Hostname{Name: "web"})
}

func TestHostnameMakesHosts(t *testing.T) {
	g := newGuest(t)
	peer.Must(t, os.Remove(filepath.Join(g.dir, "etc/hosts")))
	g.golden(t, "no-file", &op.Hostname{Name: "web"})
}
