package agent

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"herdbook/internal/event"
	"herdbook/internal/identity"
	"herdbook/internal/wire"
)

// inspectBoot waits for the booted system to come to rest, tells what state it
// is in and which units failed, and asks what the test asks.
func inspectBoot(job wire.Job, g *wire.Guest) (wire.Result, error) {
	result, err := awaitBoot(job, g)
	if err != nil {
		return result, err
	}
	if job.Test == nil {
		tellUnits(result.Failed, g.Sink())
	}
	if job.Identity {
		g.Phase("gather what names the machine")
		result.Identity = identity.Gather(os.DirFS("/"))
	}
	if job.Test != nil {
		examine(job.Test.Checks, result, g, job.Redact)
	}
	return result, nil
}

// tellUnits tells what units that failed said last.
func tellUnits(units []string, sink event.Sink) {
	for _, unit := range units {
		// It helps more than that they failed; without a journal there is nothing to add.
		log, _ := output("journalctl", "--boot", "--no-pager", "--output=cat", "--lines=10", "--unit="+unit)
		for line := range strings.Lines(log) {
			sink.Line(event.Agent, unit+": "+strings.TrimRight(line, "\n"))
		}
	}
}

// awaitBoot waits until the system has come to rest, and, if the job needs it, until it
// is on the network, and tells how it is.
func awaitBoot(job wire.Job, g *wire.Guest) (result wire.Result, err error) {
	if underSystemd() {
		result, err = awaitSystemd(job, g)
	} else {
		// Other inits start the agent behind all else.
		result.State = "running"
		result.Failed, err = failedScripts()
	}
	if err == nil && needsNetwork(job) {
		if err = awaitAddress(g); err != nil {
			err = fmt.Errorf("wait for the network: %w", err)
		}
	}
	return result, err
}

// needsNetwork tells whether the job is for a system that is online.
func needsNetwork(job wire.Job) bool { return job.Network && (len(job.Steps) > 0 || job.Test != nil) }

// awaitSystemd waits until systemd has done what it does at a boot.
func awaitSystemd(job wire.Job, g *wire.Guest) (wire.Result, error) {
	ctx := context.Background()
	if job.Boot > 0 {
		limit, cancel := context.WithTimeout(ctx, max(job.Boot-uptime(), lastCall))
		defer cancel()
		ctx = limit
	}
	result, err := settle(ctx, job, g)
	if err != nil && ctx.Err() != nil {
		return result, fmt.Errorf("the system did not come to rest within %v%s", job.Boot, waitsFor())
	}
	return result, err
}

// lastCall is what a system has at least that took all of its time until the agent was
// started.
const lastCall = time.Second

// uptime is the time since the kernel's start.
func uptime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return 0 // Linux has had that clock for longer than virtio
	}
	return time.Duration(t.Nano())
}

// settle asks systemd to say when it has done what it does at a boot.
func settle(ctx context.Context, job wire.Job, g *wire.Guest) (result wire.Result, err error) {
	if needsNetwork(job) {
		g.Phase("wait for the network")
		if _, err := outputOf(ctx, "systemctl", "start", "network-online.target"); err != nil {
			return result, fmt.Errorf("wait for the network: %w", err)
		}
	}
	g.Phase("wait for the system to be up")
	result.State, err = outputOf(ctx, "systemctl", "is-system-running", "--wait")
	if err != nil && (result.State == "" || ctx.Err() != nil) {
		return result, fmt.Errorf("ask systemd for its state: %w", err)
	}
	if result.State == "running" {
		return result, nil // or it would be degraded
	}
	if result.Failed, err = failedUnits(); err != nil {
		return result, fmt.Errorf("ask systemd for failed units: %w", err)
	}
	return result, nil
}

// listTime bounds a question to systemd, in a system that may do nothing any more.
const listTime = 30 * time.Second

// waitsFor names what systemd still does, as the end of a sentence.
func waitsFor() string {
	ctx, cancel := context.WithTimeout(context.Background(), listTime)
	defer cancel()
	text, err := outputOf(ctx, "systemctl", "list-jobs", "--no-legend", "--no-pager")
	if err != nil {
		return "; systemd does not say what it waits for: " + err.Error()
	}
	if jobs := runningJobs(text); len(jobs) > 0 {
		return "; it waits for " + strings.Join(jobs, ", ")
	}
	return "; systemd has no job left"
}

// maxJobs is how many jobs are named.
const maxJobs = 5

// runningJobs takes those that are at work out of systemd's list of jobs: each line has a
// number, the unit, what is done to it, and whether that is "running" or waits for others.
func runningJobs(list string) []string {
	var jobs []string
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		if len(fields) == 4 && fields[3] == "running" && len(jobs) < maxJobs {
			jobs = append(jobs, fields[1]+" ("+fields[2]+")")
		}
	}
	return jobs
}

// underSystemd tells whether the system was started by systemd (sd_booted(3)).
func underSystemd() bool {
	_, err := os.Lstat("/run/systemd/system")
	return err == nil
}

// output runs a program of the system and returns what it printed, trimmed.
func output(name string, args ...string) (string, error) {
	return outputOf(context.Background(), name, args...)
}

// outputOf is output for as long as ctx lasts.
func outputOf(ctx context.Context, name string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = leftBehind
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

// within waits for something, for at most so long.
func within(done <-chan struct{}, limit time.Duration) {
	select {
	case <-done:
	case <-time.After(limit):
	}
}
