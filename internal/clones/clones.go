// Package clones starts two clones of one disk image and compares everything that
// names a machine. What is equal and must not be would make trouble in a herd: two
// machines with one DHCP identifier fight for an address, two with one host key can
// stand in for each other.
package clones

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/identity"
	"herdbook/internal/machine"
	"herdbook/internal/op"
	"herdbook/internal/wire"
	"herdbook/internal/workshop"
)

// Image is the disk image that is cloned. It is only read. The caller has proved
// the format, and that a qcow2 image stands on nothing that it should not.
type Image struct {
	Path   string
	Format disk.Format // disk.Raw or disk.QCOW2
}

// Rules says how the clones start and what they may share.
type Rules struct {
	Firmware machine.Firmware
	Allow    []string // of identity.Names: may be shared
	Require  []string // of identity.Names: may not, although clones often do
}

// Error says that the clones came up and are not what they must be.
type Error struct {
	Units   []error           // of a clone, with failed units or without rest
	Defects []identity.Defect // what they share and must not, or lack
}

// Error implements error: one line for each defect.
func (e *Error) Error() string {
	errs := slices.Clone(e.Units)
	for _, d := range e.Defects {
		errs = append(errs, errors.New(d.String()))
	}
	return errors.Join(errs...).Error()
}

// Verify starts two clones of an image, one after the other, each on a throw-away
// overlay with a machine of its own: another MAC address, another UUID, and a network
// that leads nowhere. It compares what names them when they have come up. A verdict
// against them is an *Error; any other error came from the work.
//
// Of the session it takes Scratch, where the overlays lie, Timeout, which each start
// has for itself, the agent and the machine. Disk, Job, Files and Clone are set here.
func Verify(ctx context.Context, s workshop.Session, image Image, rules Rules) error {
	err := verify(ctx, s, image, rules)
	var verdict *Error
	if err == nil || errors.As(err, &verdict) {
		return err
	}
	return fmt.Errorf("compare two clones: %w", err)
}

func verify(ctx context.Context, s workshop.Session, image Image, rules Rules) error {
	backing, err := filepath.Abs(image.Path)
	if err != nil {
		return err
	}
	prepared := filepath.Join(s.Scratch, "prepared.qcow2")
	if err := disk.CreateOverlay(ctx, prepared, backing, image.Format, 0); err != nil {
		return err
	}
	defer os.Remove(prepared)
	s.Disk = prepared
	s.Job = wire.Job{Identity: true, Operations: []op.Envelope{{Operation: &op.Agent{}}}}
	quiet, err := workshop.Run(ctx, s)
	if err != nil {
		return err
	}
	var verdict Error
	var facts [2][]identity.Fact
	for i := range facts {
		s.Sink.Emit(event.Event{Kind: event.Phase, Text: fmt.Sprintf("clone %d of %d", i+1, len(facts))})
		s.Clone = i + 1
		result, err := start(ctx, s, prepared, rules.Firmware)
		if err != nil {
			return fmt.Errorf("clone %d: %w", s.Clone, err)
		}
		if err := result.CheckBoot(); err != nil {
			verdict.Units = append(verdict.Units, fmt.Errorf("clone %d: %w", s.Clone, err))
		}
		facts[i] = result.Identity
	}
	verdict.Defects = identity.Compare(quiet.Identity, facts[0], facts[1], rules.Allow, rules.Require)
	if len(verdict.Units)+len(verdict.Defects) > 0 {
		return &verdict
	}
	return nil
}

// start has a clone's life.
func start(ctx context.Context, s workshop.Session, prepared string, firmware machine.Firmware) (wire.Result, error) {
	s.Disk = filepath.Join(s.Scratch, fmt.Sprintf("clone-%d.qcow2", s.Clone))
	if err := disk.CreateOverlay(ctx, s.Disk, prepared, disk.QCOW2, 0); err != nil {
		return wire.Result{}, err
	}
	defer os.Remove(s.Disk)
	s.Job = wire.Job{Identity: true}
	return workshop.Boot(ctx, s, firmware)
}
