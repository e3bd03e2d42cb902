package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

// withAgent is a guest for which there is an agent.
func withAgent(t *testing.T) *guestTest {
	g := newGuest(t)
	g.AgentPath = filepath.Join(sandbox(t), "agent")
	peer.Must(t, os.WriteFile(g.AgentPath, []byte("the agent's own program"), 0o600))
	return g
}

func TestAgentIsInstalledAsAService(t *testing.T) {
	withAgent(t).golden(t, "installed", &op.Agent{})
}

// A directory that was made for the agent's link goes with the agent.
func TestAgentTakesDirectoriesAlong(t *testing.T) {
	g := withAgent(t)
	peer.Must(t, os.RemoveAll(filepath.Join(g.dir, agentWants)))
	peer.Must(t, g.agent(&op.Agent{}))
	unit, err := g.Root.ReadFile(agentUnit)
	peer.Must(t, err)
	if want := "ExecStart=" + AgentPath + " " + AgentPath + " " + agentLink + " " + agentUnit + " " + agentWants + "\n"; !strings.Contains(string(unit), want) {
		t.Errorf("%s lacks %s", unit, want)
	}
}

// Units are masked for one boot: the agent takes the marks along, but for those that
// were there.
func TestAgentMasksUnits(t *testing.T) {
	g := withAgent(t)
	own := filepath.Join(g.dir, "etc/systemd/system/own.service")
	peer.Must(t, os.WriteFile(own, []byte("[Service]\n"), 0o644))
	peer.Must(t, g.agent(&op.Agent{Mask: []string{"puppet.service", "own.service"}}))
	unit, err := g.Root.ReadFile(agentUnit)
	peer.Must(t, err)
	const mask = "/etc/systemd/system/puppet.service"
	if !strings.Contains(string(unit), " "+mask+"\n") && !strings.Contains(string(unit), " "+mask+" ") || strings.Contains(string(unit), "own.service") {
		t.Errorf("the agent is told %s", unit)
	}
	if target, err := g.Root.ReadLink(mask); err != nil || target != "/dev/null" {
		t.Errorf("the mask leads to %q: %v", target, err)
	}
	if text, err := os.ReadFile(own); err != nil || string(text) != "[Service]\n" {
		t.Errorf("the administrator's own unit is now %q: %v", text, err)
	}
}

// A guest without systemd has a file that says what its init starts.
func TestAgentInAnInittab(t *testing.T) {
	const sysv = "id:2:initdefault:\nl2:2:wait:/etc/init.d/rc 2\n"
	for name, c := range map[string]struct{ text, line string }{
		"sysv":    {sysv, "hb:2345:once:"},
		"busybox": {"::sysinit:/sbin/openrc sysinit\ntty1::respawn:/sbin/getty 38400 tty1\n", "::once:"},
	} {
		t.Run(name, func(t *testing.T) {
			g := withAgent(t)
			peer.Must(t, os.WriteFile(filepath.Join(g.dir, "sbin/init"), []byte("another init"), 0o755))
			peer.Must(t, os.WriteFile(filepath.Join(g.dir, Inittab), []byte(c.text), 0o640))
			peer.Must(t, g.agent(&op.Agent{}))
			text, err := g.Root.ReadFile(Inittab)
			peer.Must(t, err)
			if want := c.text + c.line + AgentPath + " " + AgentPath + "\n"; string(text) != want {
				t.Errorf("%s, want %s", text, want)
			}
			if back := string(WithoutAgent(text)); back != c.text {
				t.Errorf("afterwards %s", back)
			}
		})
	}
}

func TestAgentRefuses(t *testing.T) {
	g := newGuest(t)
	g.AgentPath = filepath.Join(sandbox(t), "no-agent")
	g.refuse(t, &op.Agent{}, "install the agent: open")
	g = withAgent(t)
	peer.Must(t, os.Remove(filepath.Join(g.dir, "usr/lib/systemd/systemd")))
	g.refuse(t, &op.Agent{}, "the guest's init is neither systemd nor")
	peer.Must(t, os.WriteFile(filepath.Join(g.dir, Inittab), []byte("id:2:initdefault:\n# cut"), 0o644))
	g.refuse(t, &op.Agent{}, "/etc/inittab ends in the middle of a line")
}
