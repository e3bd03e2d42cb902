package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"herdbook/internal/event"
	"herdbook/internal/identity"
	"herdbook/internal/op"
	"herdbook/internal/wire"
)

// inspectBoot waits for the booted system to come to rest, tells what state it
// is in and which units failed, and runs the commands of the test.
func inspectBoot(job wire.Job, g *wire.Guest) wire.Result {
	g.Phase("wait for the system to be up")
	state, err := output("systemctl", "is-system-running", "--wait")
	if err != nil && state == "" {
		return wire.Result{Error: fmt.Sprintf("ask systemd for its state: %v", err)}
	}
	result := wire.Result{OK: true, State: state}
	if result.Failed, err = failedUnits(); err != nil {
		return wire.Result{Error: fmt.Sprintf("ask systemd for failed units: %v", err)}
	}
	for _, unit := range result.Failed {
		// What the unit said last helps more than that it failed; without a
		// journal there is nothing to add.
		log, _ := output("journalctl", "--boot", "--no-pager", "--output=cat", "--lines=10", "--unit="+unit)
		for line := range strings.Lines(log) {
			g.Sink().Line(event.Agent, unit+": "+strings.TrimRight(line, "\n"))
		}
	}
	if job.Identity {
		g.Phase("gather what names the machine")
		result.Identity = identity.Gather(os.DirFS("/"))
	}
	if job.Test == nil {
		return result
	}
	for _, c := range job.Test.Commands {
		g.Phase("command " + c.Name)
		result.Commands = append(result.Commands, runCommand(c, job.Redact))
	}
	return result
}

// output runs a program of the system and returns what it printed, trimmed.
func output(name string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil && errs.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	return strings.TrimSpace(out.String()), err
}

func failedUnits() ([]string, error) {
	text, err := output("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager")
	if err != nil {
		return nil, err
	}
	var units []string
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 0 {
			units = append(units, fields[0])
		}
	}
	return units, nil
}

// leftBehind is how long the output of a command is read after its end: it may
// have started what holds it open for ever.
const leftBehind = 2 * time.Second

// runCommand runs one command of a test.
func runCommand(c wire.Command, redact []string) wire.CommandResult {
	cmd := exec.Command("/bin/sh", "-c", c.Run)
	out := &bounded{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = leftBehind
	r := wire.CommandResult{Name: c.Name}
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case errors.Is(err, exec.ErrWaitDelay):
	case errors.As(err, &exit):
		r.ExitStatus = exit.ExitCode()
	case err != nil:
		r.ExitStatus = 127
		fmt.Fprintln(out, err)
	}
	r.Output = op.Redact(string(bytes.ToValidUTF8(out.text, []byte("�"))), redact)
	return r
}

// bounded keeps the first part of what is written.
type bounded struct{ text []byte }

func (b *bounded) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), wire.MaxOutput-len(b.text))]...)
	return len(p), nil
}
