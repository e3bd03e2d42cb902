package workshop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"herdbook/internal/disk"
	"herdbook/internal/event"
	"herdbook/internal/machine"
	"herdbook/internal/wire"
)

// Visit is a person's look at an image: a shell in the workshop or, with a
// firmware, the image's own console.
type Visit struct {
	Backing  string           // path of the qcow2 image; it is not written to
	Firmware machine.Firmware // "": the workshop
	Scratch  string           // directory for what is written, to be removed by the caller
	Agent    []byte           // for the workshop

	Accelerator machine.Accelerator
	Memory      int // MiB
	CPUs        int
	Network     bool

	Input  io.Reader
	Output io.Writer
	Sink   event.Sink
}

// Look returns when the person, the guest or ctx ends it.
func Look(ctx context.Context, v Visit) error {
	overlay := filepath.Join(v.Scratch, "overlay.qcow2")
	if err := disk.CreateOverlay(ctx, overlay, v.Backing, disk.QCOW2, 0); err != nil {
		return err
	}
	s := Session{
		Disk: overlay, Scratch: v.Scratch, Agent: v.Agent, Accelerator: v.Accelerator, Memory: v.Memory, CPUs: v.CPUs,
		Input: v.Input, Output: v.Output, Sink: v.Sink, Job: wire.Job{Shell: true, Network: v.Network},
	}
	if v.Firmware == "" {
		_, err := Run(ctx, s)
		return err
	}
	spec := s.spec()
	spec.Firmware = v.Firmware
	v.Sink.Emit(event.Event{Kind: event.Phase, Text: "boot"})
	m, err := machine.Start(ctx, spec, nil)
	if err != nil {
		return err
	}
	ready := make(chan struct{})
	close(ready) // a boot loader may be spoken to, too
	m.Attach(v.Input, v.Output, ready)
	err = m.Wait(ctx)
	var exit *machine.Exit
	if errors.As(err, &exit) && exit.Reason == machine.Reset {
		err = nil // "reboot" is a way to leave, too
	}
	if err != nil {
		err = fmt.Errorf("look at the booted image: %w", err)
	}
	return errors.Join(err, m.Close())
}
