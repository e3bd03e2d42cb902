package guest

import (
	"errors"
	"strings"
	"testing"

	"herdbook/internal/event"
	"herdbook/internal/op"
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
