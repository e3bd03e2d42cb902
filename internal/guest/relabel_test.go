package guest

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"herdbook/internal/event"
	"herdbook/internal/op"
	"herdbook/internal/peer"
)

// selinux is what a guest with SELinux has.
var selinux = []node{
	{path: "/usr/sbin/load_policy", mode: 0o755}, {path: "/usr/sbin/setfiles", mode: 0o755},
	{path: "/etc/selinux/config", content: "# SELINUX= can be enforcing\nSELINUX=enforcing\nSELINUXTYPE=targeted\n"},
}

func (g *guestTest) notices() string {
	var texts []string
	for _, e := range g.events {
		if e.Kind == event.Notice {
			texts = append(texts, e.Text)
		}
	}
	return strings.Join(texts, "\n")
}

func TestRelabel(t *testing.T) {
	g := newGuest(t, selinux...)
	g.commands(t, "now", &op.Relabel{Exclude: []string{"/srv"}})
	g.commands(t, "at-boot", &op.Relabel{AtBoot: true})
	if !strings.Contains(g.notices(), "at its next boot, as asked") {
		t.Errorf("notices %q", g.notices())
	}
}

// The real setfiles labels by the guest's list, on a kernel without SELinux, too.
func TestRelabelBySetfiles(t *testing.T) {
	g := newGuest(t, selinux[0], selinux[2], node{path: "/etc/selinux/targeted/contexts/files/file_contexts", content: "/.*\tsystem_u:object_r:default_t:s0\n" +
		"/etc(/.*)?\tsystem_u:object_r:etc_t:s0\n/etc/motd\t--\tsystem_u:object_r:motd_t:s0\n/root(/.*)?\t<<none>>\n"})
	g.chroot(t, nil, "setfiles")
	restore, err := Prepare(g.Root, "")
	peer.Must(t, err)
	defer func() { peer.Must(t, restore()) }()
	if err := Apply(t.Context(), g.Guest, &op.Relabel{Exclude: []string{"/srv"}}); err != nil || g.notices() != "" {
		t.Fatalf("%v, %q\n%s", err, g.notices(), strings.Join(g.lines("stderr"), "\n"))
	}
	for name, want := range map[string]string{
		"etc/motd": "motd_t", "etc/issue": "etc_t", "etc": "etc_t", "usr/bin/systemctl": "default_t", "root": "", "srv": "", "tmp/file": "",
	} {
		label := make([]byte, 100)
		n, _ := unix.Lgetxattr(filepath.Join(g.dir, name), "security.selinux", label)
		got := strings.TrimSuffix(string(label[:max(n, 0)]), "\x00")
		if want != "" {
			want = "system_u:object_r:" + want + ":s0"
		}
		if got != want {
			t.Errorf("/%s has the label %q, want %q", name, got, want)
		}
	}
}

// The files are labelled in any case: by the guest itself, if not now.
func TestRelabelFallsBackToTheNextBoot(t *testing.T) {
	for name, r := range map[string]*recorder{
		"failure": {failing: "setfiles", fail: 255}, "no-program": {failing: "setfiles", err: errors.New("the guest has no program setfiles")},
	} {
		g := newGuest(t, selinux...)
		g.Runner = r
		g.golden(t, name, &op.Relabel{})
		if !strings.Contains(g.notices(), "as it could not be done now: ") {
			t.Errorf("%s: notices %q", name, g.notices())
		}
	}
}

func TestRelabelWithoutSELinux(t *testing.T) {
	for config, without := range map[string]bool{
		"SELINUX=disabled\nSELINUXTYPE=targeted\n": true, "SELINUX=enforcing\n": true, "": true, "SELINUX = permissive\nSELINUXTYPE = mls\n": false,
	} {
		g := newGuest(t, append(selinux[:2:2], node{path: "/etc/selinux/config", content: config})...)
		r := &recorder{}
		g.Runner = r
		if err := Apply(t.Context(), g.Guest, &op.Relabel{}); err != nil || (len(r.commands) == 0) != without {
			t.Errorf("%q: %v, commands %s", config, err, r)
		}
	}
	g := newGuest(t)
	g.golden(t, "none", &op.Relabel{})
	g = newGuest(t, append(selinux[:2:2], node{path: "/etc/selinux/config", content: "SELINUXTYPE=../../tmp\n"})...)
	g.refuse(t, &op.Relabel{}, "is no name")
}
