package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"herdbook/internal/definition"
	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/inspection"
	"herdbook/internal/machine"
	"herdbook/internal/op"
	"herdbook/internal/plan"
	"herdbook/internal/puppet"
	"herdbook/internal/store"
	"herdbook/internal/wire"
	"herdbook/internal/workshop"
)

// How long a system may take, from the agent's start, until it has come to rest, and,
// beside the time of its steps, for all of its boot and its end.
const (
	restTimeout = 15 * time.Minute
	bootTimeout = 30 * time.Minute
	endTimeout  = 10 * time.Minute // of systemd's units most have a minute and a half
)

// keptDir is where the machine of a failed step is kept, in the directory of its disk.
const keptDir = "machine"

// KeptMachine is the directory of what was kept of a machine, in that of its disk.
func KeptMachine(dir string) string { return filepath.Join(dir, keptDir) }

// booted does steps in the booted image: its disk gets the agent, it boots by its own
// boot loader, and when the steps are done its own init shuts it down. The disk must be
// at rest then, and keeps nothing of the agent.
func (r *run) booted(ctx context.Context, step plan.Step, session workshop.Session, work *store.Work) error {
	agent, role := &op.Agent{}, r.roleOf(step, session.Sink)
	if role != nil {
		agent.Mask = puppet.Units
		session.Terms.Answer, session.Sink = role.answer, event.Tee(session.Sink, role.hear)
	}
	session.Timeout = stepTimeout
	session.Job = wire.Job{Operations: []op.Envelope{{Operation: agent}}}
	if _, err := workshop.Run(ctx, session); err != nil {
		return err
	}
	if err := boot(&session, step); err != nil {
		return err
	}
	session.Screen, session.End = filepath.Join(work.Dir, screenName), endTimeout
	if r.KeepFailed {
		session.Keep = KeptMachine(work.Dir)
	}
	show, err := r.showOf(step, &session)
	if err == nil {
		err = seed(step, &session)
	}
	if err != nil {
		return err
	}
	result, err := workshop.Boot(ctx, session, machine.Firmware(step.Firmware))
	if role != nil {
		err = errors.Join(err, role.after(ctx, result.Puppet, work))
	}
	if session.Seed != "" {
		err = errors.Join(err, os.RemoveAll(session.Seed)) // it may be kept elsewhere
	}
	if err == nil && show != nil {
		err = work.Report(step.Kind, show.report)
	}
	if err == nil && result.CloudInit != nil {
		err = work.Report(step.Kind, result.CloudInit)
	}
	if err != nil {
		return err
	}
	session.Sink.Emit(event.Event{Kind: event.Phase, Text: "leave nothing behind"})
	return forget(ctx, session.Disk)
}

// forget zeroes what was written to an overlay at rest and means nothing any more: what
// was deleted, and what a journal still says of it. Files of the agent were there, and
// whatever the steps did away with.
func forget(ctx context.Context, path string) error {
	var gone []disk.Range
	err := inspected(path, nil, func(image *disk.Image, system *inspection.System) error {
		if err := system.Quiet(); err != nil {
			return err
		}
		idle, err := inspection.FindIdle(image, image.Size())
		if err == nil {
			gone, err = disk.Own(image, idle.Ranges)
		}
		return err
	})
	if err != nil {
		return err
	}
	return disk.Discard(ctx, path, disk.QCOW2, gone)
}

// failedPart is the one of several steps in one boot that failed, or that the machine was
// at when it did.
func failedPart(step plan.Step, err error) (definition.Step, bool) {
	parts := step.Parts()
	if len(parts) < 2 {
		return definition.Step{}, false
	}
	var inGuest *workshop.FailedError
	if errors.As(err, &inGuest) && inGuest.Result.Operation >= 0 && inGuest.Result.Operation < len(parts) {
		return parts[inGuest.Result.Operation], true
	}
	var broken *workshop.BrokenError
	if errors.As(err, &broken) {
		for _, part := range parts {
			if plan.Label(part) == broken.At {
				return part, true
			}
		}
	}
	return definition.Step{}, false
}

// boot makes the steps the session's job.
func boot(session *workshop.Session, step plan.Step) error {
	parts := step.Parts()
	var operations []op.Operation
	var inputs [][]definition.Input
	for _, part := range parts {
		operations, inputs = append(operations, part.Operation), append(inputs, part.Files)
	}
	session.Job = wire.Job{Boot: restTimeout}
	if err := join(session, step.Network); err != nil {
		return err
	}
	if err := equip(session, operations, inputs); err != nil {
		return err
	}
	session.Timeout = bootTimeout
	for i, o := range session.Job.Operations {
		limit := timeout(parts[i])
		session.Timeout += limit
		session.Job.Steps = append(session.Job.Steps, wire.Step{Name: plan.Label(parts[i]), Operation: o, Timeout: limit})
	}
	session.Job.Operations = nil
	return nil
}
