package guest

import (
	"os"
	"path/filepath"
	"testing"

	"herdbook/internal/op"
	"herdbook/internal/peer"
)

func TestAgentIsInstalledAsAService(t *testing.T) {
	g := newGuest(t)
	g.AgentPath = filepath.Join(sandbox(t), "agent")
	peer.Must(t, os.WriteFile(g.AgentPath, []byte("the agent's own program"), 0o600))
	g.golden(t, "installed", &op.Agent{})
}

func TestAgentRefuses(t *testing.T) {
	g := newGuest(t)
	g.AgentPath = filepath.Join(sandbox(t), "no-agent")
	g.refuse(t, &op.Agent{}, "install the agent: open")
	peer.Must(t, os.Remove(filepath.Join(g.dir, "usr/lib/systemd/systemd")))
	g.refuse(t, &op.Agent{}, "the guest has no systemd")
}
