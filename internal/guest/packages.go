package guest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"herdbook/internal/op"
)

// manager is a package manager of a guest.
type manager interface {
	// refresh learns what the repositories have; upgrade brings all packages up
	// to date; install and remove change what is installed. Each is a list of
	// commands, and the first that fails ends it.
	refresh() []Command
	upgrade() []Command
	install(names []string) []Command
	remove(names []string) []Command
	// has succeeds if a package is installed.
	has(name string) Command
}

// packages brings packages in and out with the manager that the guest has.
func (g *Guest) packages(ctx context.Context, o *op.Packages) error {
	name, m, err := g.manager()
	if err != nil {
		return err
	}
	wanted := o.Install
	if names, ok := o.Elsewhere[name]; ok {
		wanted = strings.Fields(names)
	}
	if o.Missing {
		if wanted, err = g.missing(ctx, m, wanted); err != nil {
			return err
		}
	}
	var commands []Command
	if o.Update || len(wanted) > 0 {
		commands = append(commands, m.refresh()...)
	}
	if o.Update {
		commands = append(commands, m.upgrade()...)
	}
	if len(wanted) > 0 {
		commands = append(commands, m.install(wanted)...)
	}
	if len(o.Remove) > 0 {
		commands = append(commands, m.remove(o.Remove)...)
	}
	for _, c := range commands {
		if err := g.mustRun(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// missing are those of some packages that are not installed.
func (g *Guest) missing(ctx context.Context, m manager, names []string) (list []string, err error) {
	for _, name := range names {
		status, err := g.Runner.Run(ctx, m.has(name))
		if err != nil {
			return nil, fmt.Errorf("ask for the package %s: %w", name, err)
		}
		if status != 0 {
			list = append(list, name)
		}
	}
	return list, nil
}

// manager finds out which package manager the guest has, by its name.
func (g *Guest) manager() (string, manager, error) {
	var known []string
	for _, m := range managers {
		known = append(known, m.name)
		if !slices.ContainsFunc(m.files, func(name string) bool { return !g.Root.Exists(name) }) {
			return m.name, m.manager, nil
		}
	}
	return "", nil, fmt.Errorf("the guest has no package manager that herdbook knows: %s", strings.Join(known, ", "))
}

// apt is the manager of Debian and its descendants.
type apt struct{}

// command is an apt-get that asks nothing and takes no half success. Files are
// not synced one by one: the disk is synced when the layer is done.
func (apt) command(args ...string) Command {
	return Command{Args: append([]string{
		"apt-get", "-q", "-y",
		"-o", "APT::Update::Error-Mode=any",
		"-o", "Acquire::Retries=3", "-o", "Acquire::Languages=none", "-o", "Acquire::PDiffs=false",
		"-o", "Dpkg::Use-Pty=0", "-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Options::=--force-confdef",
		"-o", "Dpkg::Options::=--force-unsafe-io",
	}, args...)}
}

func (a apt) refresh() []Command { return []Command{a.command("update")} }
func (a apt) upgrade() []Command { return []Command{a.command("dist-upgrade")} }

func (a apt) install(names []string) []Command {
	return []Command{a.command(append([]string{"install", "--no-install-recommends", "--"}, names...)...)}
}

func (a apt) remove(names []string) []Command {
	return []Command{a.command(append([]string{"purge", "--"}, names...)...), a.command("autoremove", "--purge")}
}

// has asks for the status: a package that was removed can still be known.
func (apt) has(name string) Command {
	return Command{Args: []string{"/bin/sh", "-c", `test "$(dpkg-query -W -f '${db:Status-Status}' -- "$1" 2>/dev/null)" = installed`, "sh", name}}
}
