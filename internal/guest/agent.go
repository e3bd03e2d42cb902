package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"herdbook/internal/op"
)

// AgentPath is where the agent's program lies in a guest until it was started.
const AgentPath = "/usr/lib/herdbook-agent"

// Inittab is the file by which System V's init, busybox's and so OpenRC's know what to
// start (inittab(5)).
const Inittab = "/etc/inittab"

// InittabID is the name of the agent's line there.
const InittabID = "hb"

const (
	agentUnit  = "/etc/systemd/system/herdbook-agent.service"
	agentWants = "/etc/systemd/system/multi-user.target.wants"
	agentLink  = agentWants + "/herdbook-agent.service"
)

// agentService starts the agent in a booted guest. It does not wait for the boot to be
// over: the agent itself watches how it goes on, and has left the service when it takes
// its files off the disk, so that systemd has nothing to say of it later on. What it
// says of the start reaches no journal (systemd.exec(5), LogLevelMax).
const agentService = `[Unit]
Description=herdbook's agent
DefaultDependencies=no
After=sysinit.target

[Service]
Type=oneshot
ExecStart=%s
KillMode=process
StandardOutput=null
StandardError=null
LogLevelMax=emerg
`

// agent has the guest's init start the agent at the next boot. The agent is told what
// belongs to it, and removes it first of all.
func (g *Guest) agent(o *op.Agent) error {
	program, err := os.Open(g.AgentPath)
	if err != nil {
		return fmt.Errorf("install the agent: %w", err)
	}
	defer program.Close()
	install := g.agentInInittab
	if g.startsSystemd() {
		install = func() error { return g.agentUnderSystemd(o.Mask) }
	}
	keep := KeepAgentTimes(g.Root)
	if err = install(); err == nil {
		err = g.Root.WriteFrom(AgentPath, program, owned(0o755))
	}
	if err := errors.Join(err, keep()); err != nil {
		return fmt.Errorf("install the agent: %w", err)
	}
	return nil
}

// agentPlaces are what changes when the agent comes and goes.
var agentPlaces = []string{Inittab, path.Dir(Inittab), path.Dir(AgentPath), path.Dir(agentUnit), agentWants}

// KeepAgentTimes notes when the places where the agent comes and goes were changed; the
// function that it returns says so of them again, as if nothing had been done there
// meanwhile.
func KeepAgentTimes(r *Root) (restore func() error) {
	before := map[string]unix.Timespec{}
	for _, name := range agentPlaces {
		if st, err := r.Stat(name); err == nil {
			before[name] = st.Mtim
		}
	}
	return func() error {
		var errs []error
		for name, changed := range before {
			f, err := r.Open(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = unix.UtimesNanoAt(unix.AT_FDCWD, descriptor(int(f.Fd())), []unix.Timespec{{Nsec: unix.UTIME_OMIT}, changed}, 0)
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("set back the time of %s: %w", name, err))
			}
		}
		return errors.Join(errs...)
	}
}

// startsSystemd tells whether the guest's init is systemd.
func (g *Guest) startsSystemd() bool {
	for _, program := range []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd"} {
		st, err := g.Root.Stat(program)
		if err != nil {
			continue
		}
		init, err := g.Root.Stat("/sbin/init")
		return err != nil || init.Ino == st.Ino && init.Dev == st.Dev
	}
	return false
}

// agentUnderSystemd masks units, too: systemd looks at all of the boot before it starts
// the agent, which takes the marks away with all else.
func (g *Guest) agentUnderSystemd(mask []string) error {
	command := []string{AgentPath, AgentPath, agentLink, agentUnit}
	for _, unit := range mask {
		link := path.Dir(agentUnit) + "/" + unit
		if g.Root.Exists(link) {
			continue // the administrator's own is not ours to replace
		}
		if err := g.Root.Symlink("/dev/null", link); err != nil {
			return err
		}
		command = append(command, link)
	}
	for dir := agentWants; !g.Root.Exists(dir); dir = dir[:strings.LastIndexByte(dir, '/')] {
		command = append(command, dir)
	}
	return errors.Join(
		g.Root.MkdirAll(agentWants, 0o755),
		g.Root.WriteFile(agentUnit, fmt.Appendf(nil, agentService, strings.Join(command, " ")), owned(0o644), false),
		g.Root.Symlink(agentUnit, agentLink),
	)
}

// agentInInittab adds a line that init comes to when it has waited for those of the
// runlevel.
func (g *Guest) agentInInittab() error {
	text, err := g.Root.ReadFile(Inittab)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("the guest's init is neither systemd nor one that reads /etc/inittab, so that it cannot be told to start the agent in a full boot")
	}
	if err != nil {
		return err
	}
	line := InittabID + ":2345:once:" + AgentPath + " " + AgentPath + "\n"
	if strings.Contains("\n"+string(text), "\n::") { // busybox's have no names, and run in all levels
		line = "::once:" + AgentPath + " " + AgentPath + "\n"
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		return fmt.Errorf("%s ends in the middle of a line", Inittab)
	}
	return g.Root.WriteFile(Inittab, append(text, line...), Attributes{}, true)
}

// WithoutAgent is an Inittab without the line of the agent.
func WithoutAgent(text []byte) []byte {
	var kept []byte
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, ":"+AgentPath+" ") {
			kept = append(kept, line...)
		}
	}
	return kept
}
