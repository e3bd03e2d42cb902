package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"herdbook/internal/op"
	"herdbook/internal/wire"
)

// askService asks whether a service runs and is enabled: systemd, OpenRC or SysV's
// scripts, whichever started the machine.
func askService(ctx context.Context, c op.ServiceCheck) error {
	switch {
	case underSystemd():
		return askSystemd(ctx, c)
	case exists(openRC):
		return openRCScripts.ask(ctx, c, "/")
	}
	return sysVScripts.ask(ctx, c, "/")
}

// scripts is a system whose services are scripts in /etc/init.d.
type scripts struct {
	program string   // that asks one for its status
	links   []string // what leads to those that start with the system, without their names
}

var (
	openRCScripts = scripts{"rc-service", []string{"etc/runlevels/*/"}}
	sysVScripts   = scripts{"service", []string{"etc/rc[2-5].d/S[0-9][0-9]", "etc/rc.d/rc[2-5].d/S[0-9][0-9]"}}
)

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// tool runs a program of the system for its answer alone.
func tool(ctx context.Context, argv ...string) answer {
	return answerOf(ctx, argv, run{dir: "/", most: wire.MaxOutput})
}

// unit is what systemd says of one.
type unit struct{ load, active, sub, result string }

// readUnit reads what systemctl show prints: NAME=VALUE, a line each.
func readUnit(text string) unit {
	value := map[string]string{}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), "=")
		value[name] = rest
	}
	return unit{value["LoadState"], value["ActiveState"], value["SubState"], value["Result"]}
}

// state is what a person is told.
func (u unit) state() string {
	state := fmt.Sprintf("%s (%s)", u.active, u.sub)
	if u.result != "" && u.result != "success" {
		state += ", " + u.result
	}
	return state
}

// settled tells whether the unit's state is not about to become another.
func (u unit) settled() bool {
	return !slices.Contains([]string{"activating", "deactivating", "refreshing"}, u.active)
}

// askSystemd judges the state of a unit.
func askSystemd(ctx context.Context, c op.ServiceCheck) error {
	u, err := settledUnit(ctx, c.Name)
	if err != nil {
		return err
	}
	if u.load == "not-found" {
		return absent(c)
	}
	var wrong []string
	if running := u.active == "active" || u.active == "reloading"; running != c.Running {
		wrong = append(wrong, fmt.Sprintf("service %s is %s, want it %s", c.Name, u.state(), runningWord(c.Running)))
	}
	if c.Enabled != nil {
		a := tool(ctx, "systemctl", "is-enabled", "--", c.Name)
		if a.err != nil {
			return fmt.Errorf("ask systemd whether %s is enabled: %w", c.Name, a.err)
		}
		if enabled := a.status == 0; enabled != *c.Enabled {
			wrong = append(wrong, fmt.Sprintf("service %s is %s, want it %s", c.Name, strings.TrimSpace(a.output), enabledWord(*c.Enabled)))
		}
	}
	return told(wrong)
}

// settledUnit waits until a unit is neither starting nor stopping, for which systemctl
// has no command.
func settledUnit(ctx context.Context, name string) (unit, error) {
	for {
		a := tool(ctx, "systemctl", "show", "--property=LoadState,ActiveState,SubState,Result", "--", name)
		u := readUnit(a.output)
		switch {
		case a.err != nil:
			return u, fmt.Errorf("ask systemd for the service %s: %w", name, a.err)
		case u.active == "":
			return u, fmt.Errorf("ask systemd for the service %s: it said: %s", name, short(a.output, nil))
		case u.settled():
			return u, nil
		}
		select {
		case <-ctx.Done():
			return u, fmt.Errorf("service %s is still %s: %w", name, u.state(), context.Cause(ctx))
		case <-time.After(lookAgain):
		}
	}
}

// ask asks a service's script for its state, and the links below root whether it starts
// with the system.
func (s scripts) ask(ctx context.Context, c op.ServiceCheck, root string) error {
	name := strings.TrimSuffix(c.Name, ".service")
	script := filepath.Join(root, "etc/init.d", name)
	if !exists(script) {
		return absent(c)
	}
	a := tool(ctx, s.program, name, "status")
	if a.err != nil {
		return fmt.Errorf("ask the service %s for its state: %w", c.Name, a.err)
	}
	var wrong []string
	// The Linux Standard Base: 0 is running; 3 is not, and no other is either.
	if running := a.status == 0; running != c.Running {
		wrong = append(wrong, fmt.Sprintf("service %s answers with status %d, want it %s; it said: %s", c.Name, a.status, runningWord(c.Running), short(a.output, nil)))
	}
	enabled := false
	for _, link := range s.links {
		found, err := filepath.Glob(filepath.Join(root, link+name))
		if err != nil {
			return fmt.Errorf("look for the links of the service %s: %w", c.Name, err)
		}
		enabled = enabled || len(found) > 0
	}
	if c.Enabled != nil && enabled != *c.Enabled {
		wrong = append(wrong, fmt.Sprintf("service %s is %s, want it %s", c.Name, enabledWord(enabled), enabledWord(*c.Enabled)))
	}
	return told(wrong)
}

// absent judges a service that there is not: it neither runs nor is enabled.
func absent(c op.ServiceCheck) error {
	if !c.Running && (c.Enabled == nil || !*c.Enabled) {
		return nil
	}
	return fmt.Errorf("there is no service %s", c.Name)
}

func told(wrong []string) error {
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, "\n"))
}

func runningWord(running bool) string {
	if running {
		return "running"
	}
	return "not running"
}

func enabledWord(enabled bool) string {
	if enabled {
		return "enabled"
	}
	return "disabled"
}
