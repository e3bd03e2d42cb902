package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/machine"
)

// bootRounds is how often the boots of the image with a step and without one take turns.
const bootRounds = 3

// bootRows are those of steps in the booted image: the starter's web.
var bootRows = []func(context.Context, *bench) (row, error){firstLine, lastLine, agentInstalled}

// booted is what was measured of boot steps.
type booted struct {
	first, login, behind, install []time.Duration
}

// boots lets an image boot with a boot step and as it is, in turns. It is done once.
func (b *bench) boots(ctx context.Context) (*booted, error) {
	if b.bootSteps != nil {
		return b.bootSteps, nil
	}
	m := &booted{}
	for round := range bootRounds {
		if err := b.bootStep(ctx, m, fmt.Sprintf("boot-%d", round)); err != nil {
			return nil, err
		}
		login, err := b.login(ctx, fmt.Sprintf("login-%d.qcow2", round))
		if err != nil {
			return nil, err
		}
		m.login = append(m.login, login)
	}
	for _, times := range [][]time.Duration{m.first, m.login, m.behind, m.install} {
		slices.Sort(times)
	}
	b.bootSteps = m
	return m, nil
}

// bootStep builds an image of web with a boot step, and notes how long its parts took.
func (b *bench) bootStep(ctx context.Context, m *booted, name string) error {
	if err := b.define(name, fmt.Sprintf("step \"boot\" %q { script = \"echo first line of %s\" }", name, name)); err != nil {
		return err
	}
	r, err := b.run(ctx, "build", name)
	if err != nil {
		return err
	}
	step := fmt.Sprintf("boot %q", name)
	// The first boot is the workshop's, which installs the agent.
	power, line, down, done, started := time.Time{}, time.Time{}, time.Time{}, time.Time{}, time.Time{}
	for _, e := range r.events {
		switch {
		case e.Step != step:
		case e.Kind == event.StepStarted:
			started = e.Time
		case e.Kind == event.Phase && e.Text == "boot":
			power = e.Time
		case e.Kind == event.Log && e.Text == "first line of "+name:
			line = e.Time
		case e.Kind == event.Log && e.Stream == event.Console && strings.Contains(e.Text, "reboot: Power down"):
			down = e.Time
		case e.Kind == event.StepDone:
			done = e.Time
		}
	}
	if power.IsZero() || line.IsZero() || down.IsZero() || done.IsZero() {
		return errors.New("the events of a boot step do not tell when it began, said something, was down and done")
	}
	m.install = append(m.install, power.Sub(started))
	m.first = append(m.first, line.Sub(power))
	m.behind = append(m.behind, done.Sub(down))
	return nil
}

var atLogin = regexp.MustCompile(`(^|[\r\n])\S+ login:`)

// login is the time that web needs from power-on to the login on its console, in the
// machine that a build gives it.
func (b *bench) login(ctx context.Context, name string) (time.Duration, error) {
	overlay := filepath.Join(b.dir, name)
	if err := disk.CreateOverlay(ctx, overlay, b.layers["web sysprep"], disk.QCOW2, 0); err != nil {
		return 0, err
	}
	verdict, err := machine.Probe(ctx, filepath.Join(b.dir, "store"))
	if err != nil {
		return 0, err
	}
	start := time.Now()
	m, err := machine.Start(ctx, machine.Spec{
		Accelerator: verdict.Accelerator, CPUs: min(runtime.NumCPU(), 4), Memory: 1024, NoFlush: true,
		Disks: []machine.Disk{{Path: overlay, Format: disk.QCOW2, Discard: true}},
	}, nil)
	if err != nil {
		return 0, err
	}
	w := &promptSeen{seen: make(chan struct{})}
	m.Attach(strings.NewReader(""), w)
	select {
	case <-w.seen:
	case <-m.Done():
		err = fmt.Errorf("it ended before its login: %w", m.Wait(ctx))
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	elapsed := time.Since(start)
	return elapsed, errors.Join(err, m.Close())
}

// promptSeen closes seen when a login has been written to it.
type promptSeen struct {
	text []byte
	seen chan struct{}
}

func (w *promptSeen) Write(p []byte) (int, error) {
	before := atLogin.Match(w.text)
	w.text = append(w.text, p...)
	if !before && atLogin.Match(w.text) {
		close(w.seen)
	}
	return len(p), nil
}

func firstLine(ctx context.Context, b *bench) (row, error) {
	m, err := b.boots(ctx)
	if err != nil {
		return row{}, err
	}
	return row{what: "boot step: power-on → the script's first line", ours: m.first[bootRounds/2], peer: m.login[bootRounds/2], peerName: "login without us", most: 1.1}, nil
}

func lastLine(ctx context.Context, b *bench) (row, error) {
	m, err := b.boots(ctx)
	if err != nil {
		return row{}, err
	}
	behind := m.behind[bootRounds/2]
	return limit("boot step: the guest's power-off → a finished layer", behind.Round(time.Millisecond).String(), "≤ 3s", behind <= 3*time.Second), nil
}

func agentInstalled(ctx context.Context, b *bench) (row, error) {
	m, err := b.boots(ctx)
	if err != nil {
		return row{}, err
	}
	install := m.install[bootRounds/2]
	return row{what: "boot step: the agent is laid into the image, before its boot", text: fmt.Sprintf("%.2f s\t-\t-\t-\t", install.Seconds())}, nil
}
