package guest

import (
	"errors"
	"fmt"
	"os"
)

const (
	agentPath = "/usr/lib/herdbook/herdbook-agent"
	agentUnit = "/etc/systemd/system/herdbook-agent.service"
	agentLink = "/etc/systemd/system/multi-user.target.wants/herdbook-agent.service"
)

// agentService runs the agent in a booted guest. It does not wait for the boot
// to be over: the agent itself watches how it goes on.
const agentService = `[Unit]
Description=herdbook's agent, for one test
DefaultDependencies=no
After=sysinit.target

[Service]
ExecStart=` + agentPath + `
StandardOutput=journal+console
`

// agent installs the agent itself as a service.
func (g *Guest) agent() error {
	if !g.Root.Exists("/lib/systemd/systemd") && !g.Root.Exists("/usr/lib/systemd/systemd") {
		return errors.New("the guest has no systemd: herdbook can test only such guests in a full boot")
	}
	program, err := os.Open(g.AgentPath)
	if err != nil {
		return fmt.Errorf("install the agent: %w", err)
	}
	defer program.Close()
	if err := errors.Join(g.Root.MkdirAll("/usr/lib/herdbook", 0o755), g.Root.MkdirAll("/etc/systemd/system/multi-user.target.wants", 0o755)); err != nil {
		return fmt.Errorf("install the agent: %w", err)
	}
	if err := errors.Join(
		g.Root.WriteFrom(agentPath, program, owned(0o755)),
		g.Root.WriteFile(agentUnit, []byte(agentService), owned(0o644), false),
		g.Root.Symlink(agentUnit, agentLink),
	); err != nil {
		return fmt.Errorf("install the agent: %w", err)
	}
	return nil
}
