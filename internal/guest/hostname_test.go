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

// Every family has its own place for the name.
func TestHostnameOfOtherDistributions(t *testing.T) {
	for name, c := range map[string]struct {
		gone []string // of Debian's files
		more []node
	}{
		"fedora":       {[]string{"etc/debian_version"}, []node{{path: "/etc/redhat-release", content: "Fedora release 41\n"}}},
		"rhel-7":       {[]string{"etc/debian_version"}, []node{{path: "/etc/redhat-release"}, {path: "/etc/sysconfig/network", content: "# made by anaconda\nHOSTNAME=old\nNOZEROCONF=yes"}}},
		"rhel-6":       {[]string{"etc/debian_version", "usr/lib/systemd/systemd", "etc/hostname"}, []node{{path: "/etc/redhat-release"}, {path: "/etc/sysconfig/network", content: "NETWORKING=yes\n"}}},
		"suse":         {[]string{"etc/debian_version"}, []node{{path: "/etc/HOSTNAME", link: "hostname"}}},
		"suse-11":      {[]string{"etc/debian_version", "usr/lib/systemd/systemd", "etc/hostname"}, []node{{path: "/etc/HOSTNAME", content: "old\n"}}},
		"alpine":       {[]string{"etc/debian_version", "usr/lib/systemd/systemd"}, []node{{path: "/etc/alpine-release", content: "3.20.0\n"}}},
		"machine-info": {[]string{"etc/debian_version"}, []node{{path: "/etc/machine-info", content: "PRETTY_HOSTNAME=Old\n"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, c.more...)
			for _, gone := range c.gone {
				peer.Must(t, os.Remove(filepath.Join(g.dir, gone)))
			}
			peer.Must(t, os.WriteFile(filepath.Join(g.dir, "etc/hosts"), []byte("127.0.0.1 localhost\n"), 0o644))
			g.golden(t, name, &op.Hostname{Name: "web.example.org"})
		})
	}
}
